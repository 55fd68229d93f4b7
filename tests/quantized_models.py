"""Small random models on disk, saved by transformers and quantised in place by the tools that publish the formats."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from quantizers import CONFIGS, quantised

TINY = Path(str(resources.files("abliterate") / "data" / "tiny-chat"))

COMMON = {
    "hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 3, "num_attention_heads": 4,
    "num_key_value_heads": 2, "vocab_size": 1600, "max_position_embeddings": 512, "head_dim": 32,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "tie_word_embeddings": False,
}  # fmt: skip

FAMILIES: Mapping[str, dict[str, Any]] = {
    "llama": COMMON,
    "qwen3": COMMON,
    "qwen3_moe": {**COMMON, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64},
    "deepseek_v3": {
        **COMMON, "head_dim": 16, "num_key_value_heads": 4, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 2,
        "topk_group": 1, "moe_intermediate_size": 64, "first_k_dense_replace": 1, "q_lora_rank": 32,
        "kv_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 32, "n_shared_experts": 1,
    },
    "gpt_oss": {
        **COMMON, "num_local_experts": 4, "num_experts_per_tok": 2, "sliding_window": 16, "layer_types": None,
        "intermediate_size": 64,
    },
}  # fmt: skip

LINEAR = re.compile(r"layers\.\d+\..*(_proj|_a_proj_with_mqa|experts\.\d+\.\w+)\.weight")
"""What the publishers of these formats quantise: the linear maps of the layers, not embeddings, norms, routers, head."""


def random_checkpoint(family: str, folder: Path, dtype: torch.dtype = torch.bfloat16, **changes: Any) -> Path:
    """Save a random model of a family, with a tokenizer."""
    torch.manual_seed(0)
    config = AutoConfig.for_model(family, **{**FAMILIES[family], **changes})
    model = AutoModelForCausalLM.from_config(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn_like(parameter)
            parameter.copy_(1 + 0.2 * noise if "norm" in name else noise * 0.1)
    model.to(dtype).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(TINY / name, folder / name)
    return folder


def quantise_checkpoint(folder: Path, name: str) -> Path:
    """Quantise the weights of a saved model in the format `name`, in place."""
    tensors = load_file(folder / "model.safetensors")
    stored = {}
    for key, tensor in tensors.items():
        if name == "mxfp4" and key.endswith(("experts.down_proj", "experts.gate_up_proj")):
            packed = quantised(name, tensor.float())
            stored |= {f"{key}_blocks": packed.values, f"{key}_scales": packed.scales}
        elif name != "mxfp4" and LINEAR.search(key):
            packed = quantised(name, tensor.float())
            suffix = "_scale_inv" if name.startswith("fp8") else "_scale"
            stored |= {key: packed.values, f"{key}{suffix}": packed.scales}
        else:
            stored[key] = tensor
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": CONFIGS[name]}, indent=2))
    return folder


def save_direction(path: Path, d_model: int = 128, seed: int = 5) -> torch.Tensor:
    """Save a random direction as `abliterate apply` reads it."""
    direction = torch.nn.functional.normalize(
        torch.randn(d_model, generator=torch.Generator().manual_seed(seed)), dim=0
    )
    save_file({"resid.1": direction}, path)
    return direction
