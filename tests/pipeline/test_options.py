"""The options of a run: what they contradict, how they are read, and that declaring them takes no time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.options import (
    AskOptions,
    EditOptions,
    ModelOptions,
    Options,
    OutputOptions,
    SearchOptions,
    check_options,
    default_out,
    read_batch_size,
    read_memory,
    read_template_path,
)

LIGHT = (
    "pipeline.options", "pipeline.condition_options", "pipeline.evaluate_options", "pipeline.export_options",
    "pipeline.reproduce_options", "chat.options", "training.heal_options", "training.harden_options", "cli",
)  # fmt: skip


@pytest.mark.parametrize("module", LIGHT)
def test_declaring_options_imports_nothing_heavy(module: str) -> None:
    heavy = "torch", "transformers", "datasets", "accelerate", "huggingface_hub"
    script = f"import sys, abliterate.{module}; print([one for one in {heavy!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_has_the_options_of_every_group_and_no_others() -> None:
    groups = (EditOptions, AskOptions, ModelOptions, OutputOptions, SearchOptions)
    names = {one.name for group in groups for one in fields(group)}
    assert {one.name for one in fields(Options)} == names
    options = Options("model", Path("out"), layer=3)
    assert (options.model, options.out, options.layer) == ("model", Path("out"), 3)
    assert all(isinstance(options, group) for group in groups)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "harden"}, "--mode harden trains an adapter"),
        ({"optimize": True, "strength": 0.5}, "--strength and --optimize"),
        ({"max_kl": 0.1}, "--max-kl chooses among the edits of a search; add --optimize"),
        ({"optimize": True, "target_refusals": -0.1}, "--target-refusals -0.1: give a number from 0 up"),
        ({"optimize": True, "max_kl": float("inf")}, "--max-kl inf: give a number from 0 up"),
        ({"mode": "induce", "optimize": True}, "--optimize says how the direction is removed"),
        ({"mode": "induce", "sites": ("attn",)}, "--sites says how the direction is removed"),
        ({"mode": "induce", "edited_dtype": "float32"}, "--edited-dtype says how the direction is removed"),
        ({"mode": "induce", "strength": 0.0}, "--strength 0 adds nothing"),
        ({"mode": "induce", "save": ("checkpoint", "adapter")}, "--mode induce writes one form"),
        ({"save": ("gguf-adapter",)}, "what is measured is a checkpoint or an adapter"),
        ({"leave_out": ("embed",)}, "--leave-out embed is for a GGUF adapter; add gguf-adapter to --save"),
        ({"save": ("adapter",), "edited_dtype": "float32"}, "--edited-dtype says how a checkpoint is written"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    check_options(Options("model", Path("out")))
    with pytest.raises(InputError, match=message):
        check_options(Options("model", Path("out"), **changes))


@pytest.mark.parametrize(("text", "size"), [("16GB", 16 * 10**9), ("4GiB", 2**32), ("900mb", 900 * 10**6)])
def test_sizes(text: str, size: int) -> None:
    assert read_memory(text) == size


@pytest.mark.parametrize(
    ("read", "text", "message"),
    [(read_memory, "much", "give a size such as 16GB"), (read_batch_size, "many", "give a whole number or auto")],
)
def test_what_cannot_be_read_says_the_way_out(read: Any, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(text)


def test_an_empty_path_is_the_models_own_template() -> None:
    assert (read_template_path(""), read_template_path("a.jinja")) == (None, Path("a.jinja"))


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"model": "org/name"}, "name-abliterated"),
        ({"model": "some/file.gguf", "mode": "induce"}, "file-induced"),
        ({"model": "folder/", "mode": "harden"}, "folder-hardened"),
    ],
)
def test_the_result_is_named_after_model_and_mode(given: dict[str, Any], name: str) -> None:
    assert default_out(given) == Path(name)
