"""A `.gguf` file as a checkpoint."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PretrainedConfig

from abliterate.checkpoints.checkpoint import content_hash
from abliterate.errors import InputError, first_line
from abliterate.extras import require
from abliterate.models.config_limits import check_numbers
from abliterate.progress import Progress
from abliterate.storage.atomic import written_whole
from abliterate.storage.cache import cache_folder
from abliterate.storage.names import CONFIG
from abliterate.storage.own_files import is_own_file, own_folder
from abliterate.storage.temporary import writing_to

GGUF = "reading a .gguf file"
"""What needs the `gguf` extra here."""

UNREADABLE = (
    ValueError,
    LookupError,
    NotImplementedError,
    OSError,
    OverflowError,
    RecursionError,
    TypeError,
    struct.error,
)
"""What transformers raises for a damaged file: it reads sizes as they stand there."""


def from_gguf(path: Path, progress: Progress) -> Path:
    """Return a folder with the dequantised bf16 checkpoint of a `.gguf` file, made once per content.

    Raises InputError when the file is missing, the `gguf` extra is not installed, or transformers cannot read it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    require("gguf", GGUF)
    from transformers import GgufConfig

    folder = cache_folder() / "gguf" / content_hash(path, progress)[:32]
    try:
        own_folder(folder.parent)
    except OSError as error:
        raise InputError(
            f"{folder.parent}: cannot keep what is made of {path.name} ({error.strerror}); set ABLITERATE_CACHE to a folder"
        ) from error
    if is_own_file(folder / CONFIG) and not folder.is_symlink():
        return folder
    place: dict[str, Any] = {"gguf_file": path.name}
    try:
        with alone(path) as room:
            check_metadata(path, room)
            tokenizer = AutoTokenizer.from_pretrained(room, **place)
            model = AutoModelForCausalLM.from_pretrained(
                room, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **place
            )
    except InputError:
        raise
    except UNREADABLE as error:
        raise InputError(f"{path}: transformers cannot read this GGUF file ({first_line(error)})") from error
    with writing_to(str(folder.parent), "set ABLITERATE_CACHE to another folder"), written_whole(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return folder


def check_metadata(path: Path, room: Path | None = None) -> None:
    """Raise CheckpointError where the file's metadata ask for more than any model has: before anything of it is built."""
    config, _ = PretrainedConfig.get_config_dict(room or path.parent, gguf_file=path.name)
    check_numbers(str(path), config)


@contextmanager
def alone(path: Path) -> Iterator[Path]:
    """Give a folder that holds the file alone: what lies beside it is no part of it, and what is made is kept by content."""
    with tempfile.TemporaryDirectory() as room:
        inside, real = Path(room) / path.name, path.resolve()
        try:
            inside.symlink_to(real)
        except OSError:  # Windows, without the right to make links
            inside.hardlink_to(real)
        yield Path(room)
