"""Download of a checkpoint from the Hub: what a plain load needs, and no more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import huggingface_hub

from abliterate.errors import InputError
from abliterate.hub.errors import hub_errors
from abliterate.hub.names import hub_name, is_path
from abliterate.storage.names import CARD

HUB_FILES = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.py",
    "*.tiktoken",
    "*.spm",
    "*.vocab",
    "spk_dict.pt",
    "*.npy",
    "LICENSE*",
    "NOTICE*",
    CARD,
)
"""What is fetched of a repository: weights, configuration, tokenizer, tables such as a speaker table, custom code, licence;
no pickled weights, no GGUF."""

HUB_COPIES = (
    *("original/*", "metal/*", "onnx/*", "openvino/*", "coreml/*", "consolidated*"),
    *("pytorch_model*.pt", "model*.pt", "optimizer*.pt", "scheduler.pt", "rng_state*", "global_step*"),
)
"""Second copies of the weights in other forms, and the state of a training, which would be downloaded for nothing."""


def download(model: str, revision: str | None, offline: bool, files: Sequence[str] = HUB_FILES) -> Path:
    """Return the folder of a Hub repository's snapshot in the Hub's cache, downloading what is missing.

    `model` is any of the forms that `hub_name` reads. Raises InputError for what is no name or no revision, HubError when
    the Hub refuses or cannot be reached.
    """
    named = hub_name(model)
    if named is None:
        raise InputError(
            f"{model}: no such folder or file, and not a Hub id of the form org/name, nor a model's address"
        )
    revision = named.at(revision)
    if revision is not None and is_path(revision):  # the cache keeps a file of this name
        raise InputError(f"{revision!r}: is no revision; give a branch, a tag or a commit")
    with hub_errors(str(named)):
        return Path(
            huggingface_hub.snapshot_download(
                named.repository,
                revision=revision,
                cache_dir=os.environ.get("HF_HUB_CACHE")
                or None,  # as it is now: the library reads it once, when it is imported
                local_files_only=offline,
                allow_patterns=list(files),
                ignore_patterns=list(HUB_COPIES),
            )
        )
