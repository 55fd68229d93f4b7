"""A model folder that is saved into while a verb works on it: no verb publishes what belongs to no model that is there."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from abliterate.commands.apply import apply
from abliterate.commands.evaluate import evaluate
from abliterate.commands.export import export
from abliterate.commands.harden import harden_model
from abliterate.commands.heal import heal
from abliterate.commands.run import run
from abliterate.errors import InputError
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.run import Result
from abliterate.progress import Advance, Progress
from abliterate.training.harden_options import HardenOptions
from abliterate.training.heal_options import HealOptions
from fixtures.tiny_chat import TINY, options

pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


class Meddling:
    """Someone saves another file into the model's folder when a step of a unit begins: the first, or a later one."""

    def __init__(self, unit: str, change: Callable[[], None], later: int = 0) -> None:
        self.unit, self.change, self.done, self.later = unit, change, False, later

    @contextmanager
    def step(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        if unit == self.unit and not self.done and not title.startswith("hashing"):
            self.later -= 1
            if self.later < 0:
                self.change()
                self.done = True
        yield lambda units: None


Verb = Callable[[Path, Path, Path, Progress], object]


def healed(model: Path, edit: Path, out: Path, progress: Progress) -> object:
    rows = out.with_suffix(".jsonl")
    pairs = [{"prompt": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(1, 31)]
    rows.write_text("\n".join(map(json.dumps, pairs)))
    return heal(str(model), str(rows), out, HealOptions(steps=1), device="cpu", progress=progress)


VERBS: dict[str, tuple[str, Verb]] = {
    "run": ("replies", lambda model, edit, out, bar: run(options(out, model=str(model)), progress=bar)),
    "run, an adapter": (
        "tensors",
        lambda model, edit, out, bar: run(options(out, model=str(model), save=("adapter",), layer=4), progress=bar),
    ),
    "apply": (
        "B",
        lambda model, edit, out, bar: apply(
            options(out, model=str(model)), edit / "directions.safetensors", edit / "recipe.json", bar
        ),
    ),
    "export": (
        "tensors",
        lambda model, edit, out, bar: export(ExportOptions(edit, "adapter"), options(out, model=str(model)), bar),
    ),
    "export for llama.cpp": (
        "tensors",
        lambda model, edit, out, bar: export(
            ExportOptions(edit, "gguf-adapter", leave_out=("embed",)), options(out, model=str(model)), bar
        ),
    ),
    "heal": ("steps", lambda model, edit, out, bar: healed(edit, edit, out, bar)),
    "harden": (
        "steps",
        lambda model, edit, out, bar: harden_model(options(out, model=str(model)), HardenOptions(steps=1), bar),
    ),
    "evaluate": (
        "replies",
        lambda model, edit, out, bar: evaluate(
            options(Path(), model=str(model)), EvaluateOptions(reply_tokens=8, n_prompts=8), None, bar
        ),
    ),
    "evaluate, the other model": (
        "replies",
        lambda model, edit, out, bar: evaluate(
            options(Path(), model=str(edit)), EvaluateOptions(reply_tokens=8, n_prompts=8), str(model), bar
        ),
    ),
}


@pytest.mark.parametrize(
    "verb", [verb if verb == "apply" else pytest.param(verb, marks=pytest.mark.slow) for verb in VERBS]
)
def test_a_source_that_changed_is_an_error_and_the_next_run_starts_clean(
    verb: str, result: Result, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(TINY, tmp_path / "tiny-chat"))
    edit = Path(shutil.copytree(result.out, tmp_path / "edit"))
    unit, call = VERBS[verb]
    template = (edit if verb == "heal" else model) / "chat_template.jinja"
    before, out = template.read_text(), tmp_path / "out"
    meddling = Meddling(unit, lambda: template.write_text(before + "\n"))
    with pytest.raises(InputError, match=r"chat_template\.jinja: changed since it was opened"):
        call(model, edit, out, meddling)
    assert meddling.done
    assert not out.exists()
    template.write_text(before)
    if verb == "harden":
        return  # its own result depends on nothing that is kept
    call(model, edit, out, Meddling("never", lambda: None))
    if (out / "chat_template.jinja").is_file():
        assert (out / "chat_template.jinja").read_text() == before


def test_an_adapter_that_changed_under_an_evaluation_is_an_error(result: Result, tmp_path: Path) -> None:
    adapter = export(ExportOptions(result.out, "adapter"), options(tmp_path / "adapter")).out
    config = adapter / "adapter_config.json"
    meddling = Meddling("replies", lambda: config.write_text(config.read_text() + "\n"), later=1)
    with pytest.raises(InputError, match=r"adapter_config\.json: changed"):
        evaluate(options(Path(), model=str(adapter)), EvaluateOptions(reply_tokens=8, n_prompts=8), str(TINY), meddling)
