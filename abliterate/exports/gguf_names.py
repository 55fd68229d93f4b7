"""What llama.cpp calls the tensors of a checkpoint, which of them an adapter reaches, and how a GGUF file is written.

The names are those of the `gguf` package. Which architecture of llama.cpp a model is, only its converter knows; here are
the families whose writers it copies as they are (it permutes query and key rows, and stores Gemma's norms plus 1: both
are no writers). A family whose converter scales or reorders writers, as those of Falcon-H1 and Qwen3.5, does not belong here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.storage.atomic import written_whole

ARCHITECTURES = {
    "arcee": "arcee", "cohere": "command-r", "cohere2": "cohere2", "exaone4": "exaone4", "gemma": "gemma",
    "gemma2": "gemma2", "gemma3_text": "gemma3", "glm4": "glm4", "gpt2": "gpt2", "gpt_oss": "gpt-oss",
    "granite": "granite", "llama": "llama", "mistral": "llama", "mixtral": "llama", "olmo2": "olmo2", "olmoe": "olmoe",
    "phi3": "phi3", "qwen2": "qwen2", "qwen2_moe": "qwen2moe", "qwen3": "qwen3", "qwen3_moe": "qwen3moe",
    "seed_oss": "seed_oss", "smollm3": "smollm3",
}  # fmt: skip
"""By transformers' `model_type` of the text decoder."""

REACHED = re.compile(r"token_embd\.weight|blk\.\d+\.(attn_output|ffn_down|ffn_down_exps|ffn_down_shexp)\.weight")
"""Tensors whose product llama.cpp computes with an adapter."""

TOKEN_EMBEDDING = "token_embd.weight"
OUTPUT = "output.weight"
EXPERT = re.compile(r"(.+\.experts)\.(\d+)(\..+)")


@dataclass(frozen=True)
class Named:
    """A tensor of a checkpoint as llama.cpp has it; `expert` is its number where llama.cpp stacks the experts."""

    name: str
    expert: int | None


def architecture_name(model_type: str) -> str:
    """Return llama.cpp's name of an architecture. Raises InputError for one that is not in the table."""
    if model_type not in ARCHITECTURES:
        raise InputError(
            f"{model_type}: not known how llama.cpp stores its writers; known are {', '.join(sorted(ARCHITECTURES))}; "
            "write the edited checkpoint and convert that instead"
        )
    return ARCHITECTURES[model_type]


def names_of_architecture(model_type: str, depth: int) -> Callable[[str], Named | None]:
    """Return what maps the name of a tensor on disk to llama.cpp's; that map gives None for a tensor without one.

    Raises InputError for an architecture that is not in the table, or without the `gguf` package.
    """
    needed()
    import gguf

    wanted = architecture_name(model_type)
    architecture = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == wanted)
    names = gguf.get_tensor_name_map(architecture, depth)

    def named(name: str) -> Named | None:
        plain = name.replace("language_model.model.", "model.").replace("model.language_model.", "model.")
        expert = EXPERT.fullmatch(plain)
        found = names.get_name("".join(expert.group(1, 3)) if expert else plain, try_suffixes=(".weight", ".bias"))
        return Named(found, int(expert[2]) if expert else None) if found else None

    return named


def needed() -> None:
    """Raise InputError without the `gguf` package."""
    require("gguf", "writing a .gguf file", "gguf")


@contextmanager
def gguf_file(out: Path, architecture: str, force: bool) -> Iterator[Any]:
    """Give a `gguf.GGUFWriter` to fill; leaving the context writes the file, whole or not at all.

    Raises InputError when `out` exists and `force` is not given, or is a folder, when its folder is missing or cannot be
    written, or without the `gguf` package.
    """
    needed()
    import gguf

    if os.path.isdir(out):  # noqa: PTH112 - False also where the name is too long, which writing says
        raise InputError(f"{out} is a folder; give the name of a .gguf file")
    if os.path.lexists(out) and not force:
        raise InputError(f"{out} exists; pass --force to replace it, or choose another --out")
    if not out.parent.is_dir():
        raise InputError(f"{out}: there is no folder {out.parent}; make it, or choose another --out")
    writer = gguf.GGUFWriter(None, architecture)
    yield writer
    try:
        with written_whole(out) as partial:
            writer.write_header_to_file(partial)
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()
            with partial.open("rb") as file:
                os.fsync(file.fileno())
    except OSError as error:
        raise InputError(f"{out}: cannot be written ({error.strerror}); choose another --out") from error
