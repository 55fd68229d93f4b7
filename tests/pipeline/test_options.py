"""The options of a run: how they are read, and that declaring them takes no time."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from abliterate.pipeline.form_options import FormOptions
from abliterate.pipeline.judge_options import JudgeOptions
from abliterate.pipeline.keep_options import KeepOptions
from abliterate.pipeline.options import (
    AskOptions,
    EditOptions,
    ModelOptions,
    Options,
    OutputOptions,
    default_out,
    read_batch_size,
    read_memory,
    read_template_path,
)
from abliterate.pipeline.search_options import SearchOptions

LIGHT = (
    "pipeline.options", "pipeline.condition_options", "pipeline.evaluate_options", "pipeline.export_options",
    "pipeline.reproduce_options", "pipeline.search_options", "pipeline.keep_options", "chat.options", "training.heal_options", "training.harden_options", "cli",
)  # fmt: skip


@pytest.mark.parametrize("module", LIGHT)
def test_declaring_options_imports_nothing_heavy(module: str) -> None:
    heavy = "torch", "transformers", "datasets", "accelerate", "huggingface_hub"
    script = f"import sys, abliterate.{module}; print([one for one in {heavy!r} if one in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_run_has_the_options_of_every_group_and_no_others() -> None:
    groups = (
        EditOptions,
        FormOptions,
        AskOptions,
        ModelOptions,
        OutputOptions,
        SearchOptions,
        KeepOptions,
        JudgeOptions,
    )
    names = {one.name for group in groups for one in fields(group)}
    assert {one.name for one in fields(Options)} == names
    options = Options("model", Path("out"), layer=3)
    assert (options.model, options.out, options.layer) == ("model", Path("out"), 3)
    assert all(isinstance(options, group) for group in groups)


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
        ({"model": "org/name@v1"}, "name-abliterated"),
        ({"model": "https://huggingface.co/org/name/tree/main"}, "name-abliterated"),
        ({"model": "gpt2"}, "gpt2-abliterated"),
        ({"model": "some/file.gguf", "mode": "induce"}, "file-induced"),
        ({"model": "folder/", "mode": "harden"}, "folder-hardened"),
    ],
)
def test_the_result_is_named_after_model_and_mode(given: dict[str, Any], name: str) -> None:
    assert default_out(given) == Path(name)
