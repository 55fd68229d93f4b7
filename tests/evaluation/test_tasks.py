"""Tasks of the lm-eval harness on the tiny chat model: tasks of our own, without a network."""

from __future__ import annotations

import json
import math
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import datasets
import numpy
import pytest
import torch
from rich.console import Console
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.evaluation.tasks import TaskMean, capability, quiet_tasks, seeded
from abliterate.progress import Advance
from fixtures.folders import FIXTURES
from servers.llama_server import TINY_CHAT

TASKS = FIXTURES / "lm_eval_task"
WORDS, ECHO, GROUP = (str(TASKS / f"tiny_{name}.yaml") for name in ("words", "echo", "group"))


@pytest.fixture(scope="module")
def tiny() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(TINY_CHAT)


@pytest.fixture(autouse=True)
def data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Data paths of tasks are relative to the working folder; the tables that are made of them stay out of the user's."""
    monkeypatch.chdir(TASKS)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")


class Counting:
    def __init__(self) -> None:
        self.units: list[int] = []
        self.totals: list[int] = []

    @contextmanager
    def step(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        assert (title, unit) == ("running capability tasks", "requests")
        self.totals.append(total)
        yield self.units.append


def log_likelihood(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, text: str, choice: str) -> float:
    context, whole = (tokenizer(one, add_special_tokens=False)["input_ids"] for one in (text, text + choice))
    assert whole[: len(context)] == context
    with torch.inference_mode():
        scores = model(torch.tensor([whole])).logits[0].log_softmax(-1)
    return float(sum(scores[place - 1, whole[place]] for place in range(len(context), len(whole))))


@pytest.mark.parametrize("batch_size", ["auto", 5])
def test_the_figures_are_those_of_the_model(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase], batch_size: int | str
) -> None:
    model, tokenizer = tiny
    rows = [json.loads(line) for line in (TASKS / "words.jsonl").read_text().splitlines()]
    right = []
    for row in rows:
        scores = [log_likelihood(model, tokenizer, row["question"], choice) for choice in row["choices"]]
        right.append(float(scores.index(max(scores)) == row["answer"]))
    progress = Counting()
    found = capability(model, tokenizer, [WORDS], batch_size=batch_size, progress=progress)  # type: ignore[arg-type]
    assert list(found) == ["tiny_words"]
    assert sorted(found["tiny_words"]) == ["acc", "acc_norm"]
    accuracy = found["tiny_words"]["acc"]
    assert (accuracy.value, accuracy.count) == (pytest.approx(numpy.mean(right)), len(rows))
    assert accuracy.standard_error == pytest.approx(numpy.std(right, ddof=1) / math.sqrt(len(rows)))
    assert 0 < accuracy.value < 1, "the task tells nothing about this model any more"
    assert progress.totals == [sum(progress.units)] == [3 * len(rows)]


def test_several_tasks_filters_and_a_limit(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    progress = Counting()
    found = capability(*tiny, [WORDS, ECHO], limit=5, batch_size=2, progress=progress)
    assert sorted(found) == ["tiny_echo", "tiny_words"]
    assert sorted(found["tiny_echo"]) == ["exact_match,first-word", "exact_match,whole"]
    assert all(mean.count == 5 for means in found.values() for mean in means.values())
    assert sorted(progress.totals) == [5, 15]
    assert sum(progress.units) == 20


def test_the_chat_template_on_request(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    model, tokenizer = tiny
    seen: list[str] = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(tokenizer.decode(args[0][0])), with_kwargs=True
    )
    try:
        for template in (False, True):
            seen.clear()
            capability(model, tokenizer, [WORDS], limit=1, chat_template=template)
            assert all(("<|user|>" in text) == template for text in seen)
            assert seen
    finally:
        handle.remove()


def test_groups_are_there_beside_their_tasks(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    found = capability(*tiny, [GROUP], limit=4)
    assert sorted(found) == ["tiny_group", "tiny_words"]
    assert found["tiny_group"]["acc"] == found["tiny_words"]["acc"]
    with pytest.raises(InputError, match=r"tiny_words.*; name each task once$"):
        capability(*tiny, [WORDS, GROUP], limit=4)


def test_nothing_is_printed_and_everything_is_left_as_it_was(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase], capfd: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = tiny
    before = [tensor.clone() for tensor in model.state_dict().values()]
    settings = (tokenizer.padding_side, tokenizer.pad_token, len(tokenizer), model.generation_config.to_dict())
    first = capability(model, tokenizer, [WORDS, ECHO], limit=3)
    assert capability(model, tokenizer, [WORDS, ECHO], limit=3) == first
    assert capfd.readouterr() == ("", "")
    after = (tokenizer.padding_side, tokenizer.pad_token, len(tokenizer), model.generation_config.to_dict())
    assert after == settings
    assert all(map(torch.equal, before, model.state_dict().values()))


def test_the_generators_go_on_where_they_were() -> None:
    def draw() -> tuple[float, float, float]:
        return random.random(), numpy.random.rand(), float(torch.rand(()))

    torch.manual_seed(5)
    numpy.random.seed(5)
    random.seed(5)
    draws = [draw(), draw()]
    torch.manual_seed(5)
    numpy.random.seed(5)
    random.seed(5)
    assert draw() == draws[0]
    with seeded():
        inside = draw()
    assert draw() == draws[1]
    with seeded():
        assert draw() == inside


def test_a_task_says_how_long_a_reply_may_be(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    """The tiny chat model's own generation config says 64."""
    model, tokenizer = tiny
    assert model.generation_config.max_new_tokens > 8
    lengths: list[int] = []
    handle = model.register_forward_pre_hook(
        lambda module, args, kwargs: lengths.append(kwargs["input_ids"].shape[1]), with_kwargs=True
    )
    try:
        capability(model, tokenizer, [ECHO], limit=1)
    finally:
        handle.remove()
    assert 1 <= len(lengths) <= 8


def test_bars_of_our_own_are_drawn_meanwhile(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(stderr=True)
    with quiet_tasks():
        sys.stdout.write("harness")
        sys.stderr.write("harness")
        console.print("bar")
    assert capsys.readouterr() == ("", "bar\n")


def test_a_mean_with_its_interval() -> None:
    assert TaskMean(0.5, 100, 0.05).to_json() == {
        "mean": 0.5,
        "count": 100,
        "low": pytest.approx(0.402, abs=1e-3),
        "high": pytest.approx(0.598, abs=1e-3),
    }
    assert TaskMean(0.5, 1, math.nan).to_json() == {"mean": 0.5, "count": 1, "low": None, "high": None}


def test_a_single_document_has_no_interval(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    found = capability(*tiny, [WORDS], limit=1)
    assert found["tiny_words"]["acc"].to_json()["low"] is None


@pytest.mark.slow
def test_unknown_tasks(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    with pytest.raises(InputError, match=r"^'helaswag' is not a task of the harness; did you mean .*hellaswag.*\?$"):
        capability(*tiny, ["helaswag"])


def test_task_files_that_are_none(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no.yaml cannot be read as a task; give the path of a .yaml file"):
        capability(*tiny, [str(tmp_path / "no.yaml")])
    file = tmp_path / "task.yaml"
    text = Path(WORDS).read_text()
    for content in (
        "task: [",
        "hello: 1\n",
        text.replace("words.jsonl", "gone.jsonl"),
        text.replace(": json", ": gone/gone"),
    ):
        file.write_text(content)
        with pytest.raises(InputError, match=r"^task .*task.yaml cannot be loaded: .+") as said:
            capability(*tiny, [str(file)])
        assert "\n" not in str(said.value)
    file.write_text(text + "unsafe_code: true\n")
    with pytest.raises(
        InputError, match="task tiny_words runs code that the model writes, which is not supported here"
    ):
        capability(*tiny, [str(file)])


def test_a_reply_longer_than_the_model_reads(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase], tmp_path: Path
) -> None:
    file = tmp_path / "task.yaml"
    file.write_text(Path(ECHO).read_text().replace("max_gen_toks: 8", "max_gen_toks: 500"))
    with pytest.raises(
        InputError, match=r"the harness does not run .*task.yaml: Invalid configuration: requested max tok"
    ):
        capability(*tiny, [str(file)])


def test_without_the_package(
    tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    with pytest.raises(InputError, match="a capability task needs lm_eval, which is not installed: pip install "):
        capability(*tiny, [WORDS])


def test_nothing_to_do(tiny: tuple[PreTrainedModel, PreTrainedTokenizerBase]) -> None:
    with pytest.raises(InputError, match="0 tasks, limit None: name at least one task"):
        capability(*tiny, [])
    with pytest.raises(InputError, match=r"1 tasks, limit 0: .*at least one document of each"):
        capability(*tiny, [WORDS], limit=0)
    with pytest.raises(InputError, match="--batch-size 0"):
        capability(*tiny, [WORDS], batch_size=0)
