"""A new LoRA for a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.models.source import Source


def new_lora_config(rank: int, alpha: int | None = None) -> Any:
    """Return the config (`peft.LoraConfig`) of a LoRA on all linear maps of a model but its head; `alpha` None is 2 `rank`.

    Raises InputError for a rank below 1, and without the `peft` package.
    """
    require("train", "training", "peft")
    if rank < 1:
        raise InputError(f"rank {rank}: must be at least 1")
    from peft import LoraConfig, TaskType

    return LoraConfig(r=rank, lora_alpha=alpha or 2 * rank, target_modules="all-linear", task_type=TaskType.CAUSAL_LM)


def new_lora(model: PreTrainedModel, rank: int, seed: int) -> Any:
    """Put a fresh LoRA on `model` itself; return the `peft.PeftModel`. Raises InputError as `new_lora_config`."""
    config = new_lora_config(rank)
    from peft import get_peft_model

    torch.manual_seed(seed)
    return get_peft_model(model, config)


def save_adapter(adapted: Any, source: Source, folder: Path, keep_path: bool = False) -> None:
    """Write the LoRA of a `peft.PeftModel`, which names its model as `Source.adapter_base` has it."""
    for config in adapted.peft_config.values():
        config.base_model_name_or_path, config.revision = source.adapter_base(keep_path)
    adapted.save_pretrained(folder, save_embedding_layers=False)  # it trains none


def require_changed(adapted: nn.Module, what: str) -> None:
    """Raise InputError where a LoRA that was put on anew is still nothing: its second factor begins as zeros."""
    factors = [one for name, one in adapted.named_parameters() if "lora_B" in name or "lora_embedding_B" in name]
    if not any(bool(one.detach().any()) for one in factors):
        raise InputError(f"{what} changed nothing; take more steps, or a higher learning rate")
