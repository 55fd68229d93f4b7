"""A task file is somebody else's word: no code of it runs without trust, and what is wrong with it is one line."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import datasets
import pytest
import torch
import yaml  # type: ignore[import-untyped]
from lm_eval import utils
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.errors import InputError
from abliterate.evaluation.task_files import check_task_file, task_rules
from abliterate.evaluation.tasks import capability
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.options import AskOptions
from fixtures.folders import FIXTURES
from servers.llama_server import TINY_CHAT

TASKS = FIXTURES / "lm_eval_task"
BASE = yaml.safe_load((TASKS / "tiny_echo.yaml").read_text())


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(TINY_CHAT)


@pytest.fixture
def room(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder with a task's data, and a module that leaves a file behind when it is imported."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    monkeypatch.chdir(TASKS)
    (tmp_path / "own.py").write_text(
        "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n\n\ndef f(doc):\n    return doc['question']\n"
        "\n\nclass T:\n    pass\n"
    )
    return tmp_path


def written(room: Path, extra: str = "", **changes: Any) -> Path:
    path = room / "task.yaml"
    path.write_text(yaml.safe_dump({**BASE, **changes}) + extra)
    return path


CODE = {
    "function": {"extra": "doc_to_text: !function own.f\n"},
    "deeper": {"extra": "metadata: {a: [1, {b: !function own.f}]}\n"},
    "object": {"extra": "metadata: !!python/object/apply:os.system ['touch ran']\n"},
    "name": {"extra": "metadata: !!python/name:os.system\n"},
    "include": {"include": "other.yaml"},
    "class": {"class": "own.T"},
    "class function": {"extra": "class: !function own.T\n"},
    "process_docs": {"process_docs": "own.f"},
    "process_results": {"process_results": "own.f"},
    "custom_dataset": {"custom_dataset": "own.f"},
    "prompt": {"use_prompt": "promptsource:*"},
    "connection": {"dataset_path": "iceberg"},
    "pickle": {"dataset_path": "pandas"},
    "cache": {"dataset_kwargs": {"cache_dir": "/home"}},
    "generation": {"generation_kwargs": {"custom_generate": "org/name", "trust_remote_code": True}},
    "metric": {"metric_list": [{"metric": "exact_match", "hf_evaluate": True}]},
    "metric by name": {"metric_list": [{"metric": "org/name"}]},
    "inline": {"group": "g", "task": [{"task": "inner", "class": "own.T"}]},
    "jinja": {"doc_to_text": "{{ cycler.__init__.__globals__.os.system('touch ran') }}"},
    "jinja of a string": {"doc_to_text": "{{ ''.__class__.__mro__[1].__subclasses__() }}"},
    "jinja target": {"doc_to_target": "{{ lipsum.__globals__['os'].system('touch ran') }}"},
    "jinja format": {"doc_to_text": "{{ '{0.__class__.__init__.__globals__}'.format(question) }}"},
}


@pytest.mark.parametrize("changes", CODE.values(), ids=CODE)
def test_no_code_runs_without_trust(tiny: tuple[Any, Any], room: Path, changes: dict[str, Any]) -> None:
    (room / "other.yaml").write_text("doc_to_text: !function own.f\n")
    path = written(room, **changes)
    with pytest.raises(InputError, match=r"pass --trust-remote-code to allow it$") as caught:
        capability(*tiny, [str(path)], limit=1)
    assert "\n" not in str(caught.value)
    assert not (room / "ran").exists()
    assert not (TASKS / "ran").exists()


def test_code_runs_with_trust(tiny: tuple[Any, Any], room: Path) -> None:
    path = written(room, "doc_to_text: !function own.f\n")
    assert capability(*tiny, [str(path)], limit=1, trust_remote_code=True)
    assert (room / "ran").exists()


def test_a_group_leads_to_no_code_either(tiny: tuple[Any, Any], room: Path) -> None:
    written(room, "doc_to_text: !function own.f\n", task="inner")
    (room / "group.yaml").write_text("group: outer\ntask:\n  - inner\n")
    with pytest.raises(InputError, match=r"pass --trust-remote-code to allow it$"):
        capability(*tiny, [str(room / "group.yaml")], limit=1)
    assert not (room / "ran").exists()
    found = capability(*tiny, [str(room / "group.yaml")], limit=1, trust_remote_code=True)
    assert list(found) == ["inner"], "a group that aggregates nothing has no figure"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"doc_to_text": "{{ 1/0 }}"}, "a template of the task fails .ZeroDivisionError: division by zero."),
        ({"doc_to_text": "{{ zzz.y.x }}"}, "a template of the task fails .UndefinedError: 'zzz' is undefined."),
        ({"doc_to_text": "{{ question"}, "a template of the task fails .TemplateSyntaxError"),
        ({"doc_to_target": "{{ none + 1 }}"}, "a template of the task fails .TypeError"),
    ],
)
@pytest.mark.parametrize("trusted", [False, True])
def test_a_template_that_fails_is_one_line(
    tiny: tuple[Any, Any], room: Path, changes: dict[str, Any], message: str, trusted: bool
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        capability(*tiny, [str(written(room, **changes))], limit=1, trust_remote_code=trusted)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "task: [",
        "\t- :",
        "a: &a [*a]",
        "[" * 3000,
        "? {a: 1}\n: 2\n",
        "a: 2001-99-99\n",
        "\x00",
        "- 1\n",
        "",
        "x" * (5 << 20),
    ],
    ids=["open", "tab", "circle", "deep", "key", "date", "zero", "list", "empty", "long"],
)
def test_what_is_no_task_is_one_line(tiny: tuple[Any, Any], room: Path, text: str) -> None:
    (room / "task.yaml").write_text(text)
    with pytest.raises(InputError, match=r"task\.yaml cannot be (read|loaded)") as caught:
        capability(*tiny, [str(room / "task.yaml")], limit=1)
    assert "\n" not in str(caught.value)


def test_aliases_in_a_circle_end(room: Path) -> None:
    (room / "task.yaml").write_text("group: g\ntask: &a\n  - &b {task: *a}\n  - *b\n")
    check_task_file(room / "task.yaml", False)


def test_it_is_said_before_weights_are_loaded(room: Path) -> None:
    path = written(room, "doc_to_text: !function own.f\n")
    options = EvaluateOptions(tasks=("hellaswag", str(path)))
    with pytest.raises(InputError, match=re.escape(f"{path}: it holds !function, which can run code")):
        options.check(AskOptions("model"))
    options.check(AskOptions("model", trust_remote_code=True))


def test_a_pipe_is_no_task(room: Path) -> None:
    os.mkfifo(room / "task.yaml")
    with pytest.raises(InputError, match=r"task\.yaml cannot be read as a task"):
        check_task_file(room / "task.yaml", False)


def test_the_harness_is_left_as_it_was() -> None:
    own = utils.env
    with task_rules(False):
        assert utils.env is not own
        assert utils.apply_template("{{ a | regex_replace('b', 'c') }}\n", {"a": "abc"}) == "acc\n"
    assert utils.env is own
