"""Which files beside the shards go with an edited copy: all but copies of the weights that nobody edited.

What a model ships beside its weights (adapters, a speaker table, a dense layer of its own folder, a head outside of the
index) belongs to it, whatever its ending. A copy of the weights in another form would show the unedited model to
whoever loads that form: it stays behind, and is named. So does a link that leads out of the folder: what it leads to is
the user's, not the model's, and a copy of it would go up with the next push.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from abliterate.checkpoints.shards import TensorEntry, read_shard
from abliterate.errors import CheckpointError
from abliterate.storage.names import CARD, HARDENED, HEALED, MANIFEST, SETTINGS, TEMPLATE

COPIES = (
    *("pytorch_model*.bin", "pytorch_model*.pt", "model*.bin", "model*.pt", "consolidated*", "model.ckpt"),
    *("*.gguf", "*.ggml", "*.onnx", "*.onnx_data", "*.h5", "*.msgpack", "*.tflite", "*.ot"),
    *("*.safetensors.index.json", "*.bin.index.json", "*.h5.index.json", "*.msgpack.index.json"),
)
"""Names of the whole model in another form, as it is published, and of lists of such files."""

FOLDERS_OF_COPIES = ("original", "onnx", "openvino", "coreml", "metal", "__pycache__")
"""Folders of the whole model in another form, as published next to the safetensors."""

WRITTEN_ANEW = (CARD, MANIFEST, HEALED, HARDENED, SETTINGS, TEMPLATE)
"""What every run writes anew, at the top of the folder."""

READ_BY_LOADERS = (
    *("config.json", "generation_config.json", "*.safetensors.index.json", "*.jinja", "chat_template*", "*.py"),
    *("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab*", "merges.txt", "*processor*.json"),
    *("*.model", "*.tiktoken", "*.spm"),
)
"""What a plain load reads: a copy without these would be another model, or none."""

SNAPSHOTS, BLOBS = "snapshots", "blobs"
"""Folders of a repository in the Hub's cache: a snapshot is links to the blobs beside it."""


def folder_stays(name: str) -> bool:
    """Tell whether a folder stays behind with all it holds: hidden, or the model in another form."""
    return matches(name, (".*", *FOLDERS_OF_COPIES))


def file_stays(folder: Path, path: Path, tensors: Mapping[str, TensorEntry]) -> bool:
    """Tell whether a file, relative to the checkpoint's `folder`, stays behind; `tensors` are the checkpoint's own."""
    at_top = WRITTEN_ANEW if path.parent == Path() else ()
    if matches(path.name, (".*", *COPIES, *at_top)):
        return True
    return path.suffix.lower() == ".safetensors" and copies_weights(folder, path, tensors)


def leads_out(folder: Path, path: Path) -> bool:
    """Tell whether a file, relative to `folder`, is a link to something that is not the folder's to give away.

    A link may lead to another file of the folder that is not hidden, and from a snapshot of the Hub's cache to its blobs.
    """
    home, target = Path(os.path.realpath(folder)), Path(os.path.realpath(folder / path))
    if target.is_relative_to(home):
        return any(part.startswith(".") for part in target.relative_to(home).parts)
    return not (home.parent.name == SNAPSHOTS and target.parent == home.parent.parent / BLOBS)


def own_card(folder: Path) -> str | None:
    """Return the text of a model's own card, None where there is none or it is a link out of the folder."""
    path = folder / CARD
    if not path.is_file() or leads_out(folder, Path(CARD)):
        return None
    return path.read_text(encoding="utf-8", errors="replace")


def read_by_loaders(path: Path) -> bool:
    """Tell whether a plain load reads a file of this name at the top of the folder."""
    return path.parent == Path() and matches(path.name, READ_BY_LOADERS)


def copies_weights(folder: Path, path: Path, tensors: Mapping[str, TensorEntry]) -> bool:
    """Tell whether a safetensors file outside of the index holds a tensor of the checkpoint, by name and shape."""
    try:
        held = read_shard(folder, path.as_posix()).tensors
    except CheckpointError:
        return False  # nothing that is loaded as weights; it goes along as it is
    return any(one.name in tensors and tensors[one.name].shape == one.shape for one in held)


def named(paths: list[Path]) -> list[Path]:
    """Return those of the files left behind that a user should hear of: not what is hidden, or written anew."""
    return [path for path in paths if not path.name.startswith(".") and path.as_posix() not in WRITTEN_ANEW]


def left_behind_note(paths: list[Path], shown: int = 5) -> tuple[str, ...]:
    """Return one line that names what did not go along, or none."""
    if not paths:
        return ()
    names = ", ".join(path.as_posix() for path in paths[:shown])
    more = f" and {len(paths) - shown} more" if len(paths) > shown else ""
    return (f"left behind, as copies of the unedited weights or links out of the folder: {names}{more}",)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a name fits one of the patterns, in capitals or not."""
    return any(fnmatch(name.lower(), pattern.lower()) for pattern in patterns)
