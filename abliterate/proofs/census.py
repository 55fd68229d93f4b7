"""Which architectures of the installed transformers are proved: every model type, each on a small clone of itself."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_MASKED_LM_MAPPING_NAMES,
)

from abliterate.architectures.architecture import Architecture
from abliterate.errors import AbliterateError, InputError
from abliterate.progress import SILENT, Progress
from abliterate.proofs.architecture import prove

CensusStatus = Literal["proved", "refused", "not a residual decoder"]

NOT_DECODERS = {
    "bert-generation": "encoder with a decoder flag",
    "blt": "bytes pass an encoder, a patch model and a decoder with streams of their own",
    "gemma4_assistant": "drafts for another model, whose cache it reads",
    "gemma4_unified_assistant": "drafts for another model, whose cache it reads",
    "shieldgemma2": "classifies images",
    "trocr": "decoder of an encoder-decoder",
    "xlnet": "encoder with permuted attention",
}
"""Model types in the causal-LM mapping that are no residual decoders, where their config does not say so."""

ROPE = {"rope_type": "default", "rope_theta": 10000.0}

UNSET: dict[str, dict[str, Any]] = {
    "cohere_compass_text": {"rope_parameters": {"full_attention": ROPE, "sliding_attention": ROPE}},
    "deepseek_v2": {"num_experts_per_tok": 6},
    "dots1": {"n_routed_experts": 128, "n_shared_experts": 2, "num_experts_per_tok": 6, "first_k_dense_replace": 1},
    "lfm2_moe": {"layer_types": ["conv", "conv", "full_attention", "conv"] * 8},
    "nemotron": {"num_key_value_heads": 8},
    "qwen4_exp": {
        "indexer_n_heads": 4, "indexer_kv_heads": 1, "indexer_head_dim": 256, "indexer_budget": 64, "indexer_compress_ratio": 2,
    },
}  # fmt: skip
"""What the default config of a model type leaves open and every published checkpoint's config says."""
UNSET["qwen4_exp_text"] = UNSET["qwen4_exp"]
UNSET |= {
    name: {"rope_parameters": {**ROPE, "mrope_section": [16, 24, 24]}}
    for name in (
        "glm46v",
        "glm4v",
        "glm4v_moe",
        "glm_ocr",
        "glmga",
        "paddleocr_vl",
        "qwen2_5_omni_thinker",
        "qwen2_5_vl",
        "qwen2_vl",
    )
}

UNSET_PARTS = {"dbrx": ("attn_config", {"rope_theta": 500000.0, "clip_qkv": 8.0})}
"""The same for a part of a config."""


@dataclass(frozen=True)
class Entry:
    """One model type: whether it is proved, else the reason; what writes in a layer, what stands behind, what leaks.

    `writers` is the largest number of writing modules in one layer, experts of a list counted once; `gains` says
    whether a norm or a scale per channel stands behind a writer; `experts` how experts are held in memory.
    """

    model_type: str
    status: CensusStatus
    reason: str = ""
    writers: int = 0
    gains: bool = False
    experts: Literal["", "fused", "listed"] = ""
    leak: float | None = None
    difference: float | None = None

    @property
    def causal(self) -> bool:
        """Whether transformers has a causal language model of this type; else it is one with images."""
        return self.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES


def model_types() -> list[str]:
    """Return every model type that the installed transformers has a causal language model for."""
    return sorted(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def multimodal_types() -> list[str]:
    """Return the model types with images whose text decoder is reached through the whole model only."""
    return sorted(set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES) - set(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES))


def prove_each(types: Sequence[str], progress: Progress = SILENT) -> Iterator[Entry]:
    """Prove each model type on a small clone, and yield what came out. Raises InputError for an unknown type."""
    known = {*model_types(), *multimodal_types()}
    for name in types:
        if name not in known:
            raise InputError(f"{name}: the installed transformers has no language model of this type")
    with progress.step("proving architectures", len(types), "types") as advance:
        for name in types:
            yield prove_one(name)
            advance(1)


def prove_one(name: str) -> Entry:
    """Prove one model type."""
    if reason := NOT_DECODERS.get(name):
        return Entry(name, "not a residual decoder", reason)
    try:
        config = published_config(name)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return Entry(name, "refused", f"its default config is not valid ({type(error).__name__})")
    if config.is_encoder_decoder or name in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        return Entry(name, "not a residual decoder", "encoder-decoder" if config.is_encoder_decoder else "encoder")
    model_class, own = class_and_config(name, config)
    try:
        proved = prove(model_class, own)
    except AbliterateError as error:
        return Entry(name, "refused", str(error).removeprefix(f"{name}: "))
    return entry(name, proved.architecture, proved.leak, proved.difference)


def published_config(name: str) -> PreTrainedConfig:
    """Return the default config of a model type, completed as published checkpoints have it."""
    config: PreTrainedConfig = CONFIG_MAPPING[name]()
    for field, value in UNSET.get(name, {}).items():
        setattr(config.get_text_config(decoder=True), field, copy.deepcopy(value))
    if name in UNSET_PARTS:
        part, fields = UNSET_PARTS[name]
        vars(getattr(config, part)).update(fields)
    return config


def class_and_config(name: str, config: PreTrainedConfig) -> tuple[type[PreTrainedModel], PreTrainedConfig]:
    """Return the class that transformers loads a model type with, and the config that this class is built from."""
    causal = name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    mapping = MODEL_FOR_CAUSAL_LM_MAPPING if causal else MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING
    model_class = mapping[type(config)]
    text_only = model_class.config_class is type(config).sub_configs.get("text_config")
    return model_class, config.get_text_config(decoder=True) if text_only else config


def entry(name: str, found: Architecture, leak: float, difference: float) -> Entry:
    """Return what the list says of a proved architecture."""
    per_layer = [
        {writer.module for writer in found.writers if writer.layer == layer and "expert" not in writer.module}
        | {
            writer.module.partition("expert")[0]
            for writer in found.writers
            if writer.layer == layer and "expert" in writer.module
        }
        for layer in range(found.depth)
    ]
    routed = [writer.module for writer in found.writers if ".experts" in writer.module]
    listed = any(re.search(r"experts\.\d", module) for module in routed)
    return Entry(
        name,
        "proved",
        writers=max(map(len, per_layer)),
        gains=any(not writer.plain for writer in found.writers),
        experts=("listed" if listed else "fused") if routed else "",
        leak=leak,
        difference=difference,
    )
