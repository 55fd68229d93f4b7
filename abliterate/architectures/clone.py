"""A shrunken random clone of a model: the same classes and layer kinds, few layers, every width another number.

On it the architecture is traced and proved (docs/method.md, "Finding the writers"). A config is shrunk by what its fields mean:
`RULES` says which, `EXCEPTIONS` where a model type means something else by a name.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedModel

from abliterate.errors import ArchitectureError

D_MODEL = 64
"""Width of the clone's residual stream. No other size in it is the same, tokens in the batch included."""

VOCABULARY = 193
MOST_PARAMETERS = 20_000_000
"""A clone that is larger was not shrunk: a field that no rule knows holds a width."""

RULES: tuple[tuple[str, int], ...] = (
    (r"hidden_size|d_model|n_embd|embedding_dim|dim|embed_dim", D_MODEL),
    (r"out_hidden_size|text_hidden_size|adapter_out_dim|adapter_in_dim|projection_dim", D_MODEL),
    (r"vocab_size\w*", VOCABULARY),
    (r"max_position_embeddings|n_positions|n_ctx|max_seq_len|context_length|\w*max_length", 96),
    (r"(swa_)?num_attention_heads|n_heads?|num_heads|attention_heads|encoder_attention_heads", 4),
    (r"(swa_)?num_key_value_heads|num_kv_heads|num_query_groups|num_global_key_value_heads", 2),
    (r"(swa_)?(head_dim|v_head_dim)|kv_channels|attention_head_dim|global_head_dim|dim_head", 24),
    (r"(mamba_)?n_?groups", 2),
    (r"index_n_heads|indexer_n_heads", 2),
    (r"index_head_dim|indexer_head_dim", 32),
    (r"index_topk|indexer_budget", 32),
    (r"rotary_dim", 8),
    (r"q_lora_rank", 36),
    (r"kv_lora_rank|o_lora_rank", 28),
    (r"qk_rope_head_dim", 8),
    (r"qk_nope_head_dim", 12),
    (r"intermediate_size|ffn_dim|n_inner|ffn_hidden_size|dff|dim_ff|d_inner|encoder_ffn_dim|dense_intermediate_size", 144),
    (r"moe_intermediate_size|expert_ffn_hidden_size", 40),
    (r"(shared_|moe_shared_)\w*intermediate_size", 56),
    (r"intermediate_size_mlp", 88),
    (r"num_experts|n_routed_experts|num_local_experts|moe_num_experts", 8),
    (r"num_experts_per_tok(en)?|moe_topk|moe_k|top_k_experts|moe_top_k", 2),
    (r"n_group|num_expert_group", 2),
    (r"topk_group", 1),
    (r"(mamba_)?(d_state|state_size)|ssm_state_size", 10),
    (r"(linear|short)_conv\w*|conv_kernel(_size)?|mamba_d_conv|conv_L_cache|conv1d_width", 3),
    (r"mamba_n_heads", 8),
    (r"(mamba_)?chunk_size|mamba_chunk_size|block_size", 8),
    (r"linear_num_key_heads", 2),
    (r"linear_num_value_heads|linear_num_heads", 4),
    (r"linear_key_head_dim", 14),
    (r"linear_value_head_dim|linear_head_dim", 18),
    (r"mamba_dt_rank|time_step_rank", 5),
    (r"sliding_window(_size)?|window_size|attention_window_size|local_attention|attention_chunk_size", 8),
    (r"hidden_size_per_layer_input", 12),
    (r"laurel_rank|adapter_rank|gated_norm_rank|hc_lowrank|d_rel", 6),
)  # fmt: skip
"""What a field's whole name means, and the size that it gets; the first rule that matches. Others keep their value."""

FOLLOWS: tuple[tuple[str, str, Callable[[Mapping[str, Any]], Any]], ...] = (
    ("qk_head_dim", "qk_rope_head_dim", lambda has: has["qk_nope_head_dim"] + has["qk_rope_head_dim"]),
    ("head_dim", "qk_rope_head_dim", lambda has: has["qk_rope_head_dim"]),
    ("num_key_value_heads", "qk_rope_head_dim", lambda has: has["num_attention_heads"]),
    ("mamba_d_ssm", "mamba_expand", lambda has: has["mamba_expand"] * D_MODEL),
    ("mamba_d_head", "mamba_n_heads", lambda has: has["mamba_expand"] * D_MODEL // has["mamba_n_heads"]),
    ("mamba_headdim", "n_mamba_heads", lambda has: has["mamba_expand"] * D_MODEL // has["n_mamba_heads"]),
)
"""Fields that others decide, where the second is there: what the model classes demand of them."""

EXCEPTIONS: dict[str, dict[str, Any]] = {
    "deepseek_v4": {"head_dim": 32, "qk_rope_head_dim": 4},
    "dots3_note_text": {"head_dim": 28},
    "helium": {"head_dim": D_MODEL // 4},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "glm5_next_text": {"num_key_value_heads": 4},
    "mamba2": {"num_heads": 4, "head_dim": 2 * D_MODEL // 4},
    "mistral4": {"head_dim": 16},
    "opt": {"word_embed_proj_dim": D_MODEL},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "num_hidden_layers": 3,
        "attention_hidden_size": 2 * D_MODEL,
        "attention_head_dim": 2 * D_MODEL // 4,
    },
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid", "hybrid"],
        "num_hidden_layers": 3,
        "hybrid_layer_ids": [1, 2],
        "attention_hidden_size": 2 * D_MODEL,
        "attention_head_dim": 2 * D_MODEL // 4,
        "num_key_value_heads": 4,
    },
    "xlnet": {"d_head": D_MODEL // 4},
}
"""Where a model type means something else by a field, or one size excludes another."""

DEPTHS = (
    "num_hidden_layers",
    "depth",
    "n_layer",
    "n_layers",
    "num_layers",
    "decoder_layers",
    "encoder_layers",
    "num_blocks",
)
"""Names for the number of layers."""

INDEX_LISTS = "moe_layers|kv_source_layers|full_attn_idxs|cross_attention_layers|ple_layer_ids|\\w*local_layer_ids|hybrid_layer_ids|mlp_only_layers"
"""Lists that name some layers by their number."""

UNWANTED = ("dtype", "transformers_version", "quantization_config")
"""Fields that a clone in float32 does without."""

FIRST_LAYERS = "first_k_dense_replace|num_dense_layers|moe_layer_start_index|max_window_layers"
LAST_LAYERS = "num_kv_shared_layers"
"""Fields that say how many of the first, or of the last, layers are of another kind."""

DEPTH = 2
"""Layers of a clone, at least."""


def shrink(config: PreTrainedConfig, least: int = DEPTH) -> PreTrainedConfig:
    """Return a config of the same class and kinds of layer, small enough to build, run and save in a moment.

    It has at least `least` layers, or as many as `config` has.
    """
    return cast(PreTrainedConfig, type(config).from_dict(shrunk_fields(config, least)))


def shrunk_fields(config: PreTrainedConfig, least: int) -> dict[str, Any]:
    """Return the fields of `config` with every size replaced, sub-configs too."""
    fields = {name: value for name, value in config.to_dict().items() if name not in UNWANTED}
    depth = next((fields[name] for name in DEPTHS if isinstance(fields.get(name), int)), 0)
    kept = kept_layers(fields, depth, least)
    for name, value in list(fields.items()):
        if name in type(config).sub_configs:
            own = getattr(config, name)
            fields[name] = own and {**shrunk_fields(own, least), "model_type": own.model_type}
        elif name == "per_layer_config":
            layers = {int(layer): own for layer, own in value.items()}
            fields[name] = {place: layers[layer] for place, layer in enumerate(kept) if layer in layers}
        else:
            fields[name] = small(name, value, depth, kept)
    fields.update({name: rule(fields) for name, other, rule in FOLLOWS if fields.get(name) and fields.get(other)})
    fit_sections(fields)
    for own in fields.get("per_layer_config", {}).values():
        own.update({name: clone_size(name, value) + (0 if "heads" in name else 8) for name, value in own.items()})
        own.update({name: rule({**fields, **own}) for name, other, rule in FOLLOWS if name in own and other in fields})
    return {**fields, **EXCEPTIONS.get(config.model_type, {})}


def fit_sections(fields: dict[str, Any]) -> None:
    """Make the sections of multimodal rotary embeddings add up to half of what a head rotates."""
    rope = fields.get("rope_parameters") or {}
    if "mrope_section" in rope:
        width = fields.get("head_dim") or D_MODEL // fields["num_attention_heads"]
        half = int(width * rope.get("partial_rotary_factor", 1.0)) // 2
        rope["mrope_section"] = [half - 2 * (half // 3), half // 3, half // 3]


def small(name: str, value: Any, depth: int, kept: list[int]) -> Any:
    """Return the clone's value for one field."""
    if name.endswith("_token_id"):
        return small_tokens(name, value)
    if name in DEPTHS and value == depth:
        return len(kept)
    if isinstance(value, int) and re.fullmatch(FIRST_LAYERS, name):
        return sum(layer < value for layer in kept)
    if isinstance(value, int) and re.fullmatch(LAST_LAYERS, name):
        return sum(layer >= depth - value for layer in kept)
    if isinstance(value, list) and re.fullmatch(INDEX_LISTS, name):
        return [kept.index(layer) for layer in value if layer in kept]
    if isinstance(value, list) and depth and len(value) == depth:
        return [small(name, value[layer], 0, []) for layer in kept]
    counts = isinstance(value, int) and not isinstance(value, bool) and value > 1
    if counts or (value is None and name == "head_dim"):
        return clone_size(name, value)
    return value


def kept_layers(fields: Mapping[str, Any], depth: int, least: int) -> list[int]:
    """Return the layers that stay: one of each combination of what the per-layer lists say, at least `least`."""
    lists = [value for name, value in fields.items() if isinstance(value, list) and not re.fullmatch(INDEX_LISTS, name)]
    named = [value for name, value in fields.items() if isinstance(value, list) and re.fullmatch(INDEX_LISTS, name)]
    ends = [value for name, value in fields.items() if isinstance(value, int) and re.fullmatch(FIRST_LAYERS, name)]
    ends += [
        depth - value for name, value in fields.items() if isinstance(value, int) and re.fullmatch(LAST_LAYERS, name)
    ]
    own = {int(layer): str(one) for layer, one in fields.get("per_layer_config", {}).items()}
    kinds: dict[str, list[int]] = {}
    for layer in range(depth):
        said = [one[layer] for one in lists if len(one) == depth], [layer in one for one in named], own.get(layer)
        kinds.setdefault(f"{said} {[layer < end for end in ends]}", []).append(layer)
    kept = sorted(members[0] for members in kinds.values())
    rest = [layer for layer in range(depth) if layer not in kept]
    return sorted(kept + rest[: max(0, least - len(kept))])


def clone_size(name: str, value: Any) -> Any:
    """Return the clone's value for a field."""
    return next((small for pattern, small in RULES if re.fullmatch(pattern, name)), value)


def small_tokens(name: str, value: Any) -> Any:
    """Return ids that are inside the small vocabulary: one for each role."""
    if isinstance(value, list):
        return [3 + place for place in range(len(value))]
    return value if value is None else {"pad": 0, "bos": 1, "eos": 2}.get(name.partition("_")[0], 9)


def clone_of(model: PreTrainedModel, seed: int = 0, least: int = DEPTH) -> PreTrainedModel:
    """Return a small random model of the class and kinds of layer that `model` has, in float32 on the CPU.

    Raises ArchitectureError when its config cannot be shrunk, or the small model cannot be built.
    """
    return random_clone(type(model), model.config, seed, least)


def random_clone(
    model_class: type[PreTrainedModel], config: PreTrainedConfig, seed: int = 0, least: int = DEPTH
) -> PreTrainedModel:
    """Return `clone_of` a model that is not built: of `model_class` with `config`, all weights, biases, norms random."""
    kind = config.model_type
    try:
        small = shrink(config, least)
        small._experts_implementation = "eager"  # whose products the trace can follow
        with torch.device("meta"):
            count = sum(one.numel() for one in model_class._from_config(copy.deepcopy(small)).parameters())
        if count > MOST_PARAMETERS:
            raise ArchitectureError(f"its small clone still has {count:,} parameters")
        with torch.random.fork_rng(devices=[]), torch.device("cpu"):
            torch.manual_seed(seed)
            model = model_class._from_config(small, dtype=torch.float32)
            with torch.no_grad():
                for tensor in values(model):
                    randomise(tensor)
    except Exception as error:
        raise ArchitectureError(
            f"{kind}: no small clone of it can be built to find its writers on ({type(error).__name__}: "
            f"{' '.join(str(error).split())[:200]}); not supported yet"
        ) from error
    return model.eval()


def clone_inputs(model: PreTrainedModel) -> dict[str, Tensor]:
    """Return inputs to run a clone on: as many tokens as no width of it, and what cross-attention layers wait for."""
    generator = torch.Generator().manual_seed(0)
    inputs = {"input_ids": torch.randint(10, VOCABULARY, (2, 7), generator=generator)}
    if "cross_attention_states" in signature(model.forward).parameters:
        inputs["cross_attention_states"] = torch.randn(2, 5, D_MODEL, generator=generator)
    return inputs


def values(model: PreTrainedModel) -> Iterator[Tensor]:
    """Yield what is saved of a model: parameters, and buffers that hold numbers."""
    yield from model.parameters()
    saved = model.state_dict(keep_vars=True)
    yield from (one for name, one in model.named_buffers() if name in saved and one.is_floating_point())


def randomise(tensor: Tensor) -> None:
    """Fill a matrix so that its products have the size of its input; shake a vector about what it was."""
    if not tensor.numel():
        return
    noise = torch.randn(tensor.shape)
    if tensor.dim() >= 2:
        tensor.copy_(noise * min(tensor.shape[-2:]) ** -0.5)
    else:
        tensor.add_(0.2 * noise)
