"""What follows from a model's class and config alone, found once in a process: its traced clone, and the names of its parameters.

A program that edits or hooks one model many times, or many of one kind, pays for them once.
"""

from __future__ import annotations

import copy
import functools
import json
from dataclasses import dataclass, field
from typing import cast

import torch
from transformers import PreTrainedConfig, PreTrainedModel

from abliterate.architectures.clone import D_MODEL, clone_inputs, random_clone
from abliterate.architectures.trace import Trace, trace

KINDS = 8
"""Kinds of model that are remembered: small clones, and models without weights."""

WHENCE = ("_name_or_path", "transformers_version")
"""What a config says of where it comes from."""


@dataclass(frozen=True)
class Kind:
    """A class of models with a config. Two are equal where nothing that the configs say tells them apart."""

    model_class: type[PreTrainedModel]
    said: str
    config: PreTrainedConfig = field(compare=False, repr=False)

    @classmethod
    def of(cls, model: PreTrainedModel) -> Kind:
        """Return the kind of a model."""
        config = model.config
        said = {name: value for name, value in config.to_dict().items() if name not in WHENCE}
        attention = [config._attn_implementation, config.get_text_config(decoder=True)._attn_implementation]
        return cls(type(model), json.dumps([said, attention], sort_keys=True, default=repr), config)


@functools.lru_cache(maxsize=KINDS)
def traced_clone(kind: Kind) -> tuple[PreTrainedModel, Trace]:
    """Return a small random clone, to be read only, and what one forward pass of it showed.

    Raises ArchitectureError, as `clone.random_clone` and `trace.trace`.
    """
    clone = random_clone(kind.model_class, kind.config)
    return clone, trace(clone, D_MODEL, clone_inputs(clone))


@functools.lru_cache(maxsize=KINDS)
def empty_twin(kind: Kind) -> PreTrainedModel:
    """Return a model of the kind without weights, to be read only: the names that its parts have before any is replaced."""
    with torch.device("meta"):
        return cast(PreTrainedModel, kind.model_class(copy.deepcopy(kind.config)))
