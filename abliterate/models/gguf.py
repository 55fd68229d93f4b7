"""A `.gguf` file as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.checkpoints.checkpoint import content_hash
from abliterate.checkpoints.other_files import leads_out, read_by_loaders
from abliterate.errors import InputError, first_line
from abliterate.extras import require
from abliterate.progress import Progress
from abliterate.storage.atomic import written_whole
from abliterate.storage.cache import cache_folder
from abliterate.storage.names import CONFIG
from abliterate.storage.own_files import is_own_file, own_folder

GGUF = "reading a .gguf file"
"""What needs the `gguf` extra here."""


def from_gguf(path: Path, progress: Progress) -> Path:
    """Return a folder with the dequantised bf16 checkpoint of a `.gguf` file, made once per content.

    Raises InputError when the file is missing, the `gguf` extra is not installed, or transformers cannot read it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    require("gguf", GGUF)
    for beside in sorted(Path(one.name) for one in path.parent.iterdir()):
        if read_by_loaders(beside) and leads_out(path.parent, beside):  # it would become a part of the checkpoint
            raise InputError(f"{path.parent / beside}: is a link out of the folder; put the file itself in its place")
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
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **place)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **place
        )
    except (ValueError, KeyError, NotImplementedError, OSError) as error:
        raise InputError(f"{path}: transformers cannot read this GGUF file ({first_line(error)})") from error
    with written_whole(folder) as partial:
        model.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
    return folder
