from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

import abliterate
from abliterate.cli.app import app
from abliterate.cli.completion import DEFAULT_VERB, check_verb
from abliterate.errors import InputError
from abliterate.exports.forms import EXPORT_FORMS
from abliterate.pipeline.evaluate_options import MEASURED_SPLITS
from abliterate.pipeline.options import MODES
from abliterate.pipeline.prompt_specs import PROMPT_LISTS
from abliterate.training.examples import TRAINING_METHODS

ROOT = Path(abliterate.__file__).parent.parent
COMMAND = "import sys; sys.argv[0] = 'abliterate'; from abliterate.cli import main; main()"


def asked(environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    whole = {**os.environ, "PYTHONPATH": path, **environment}
    return subprocess.run([sys.executable, "-c", COMMAND], env=whole, capture_output=True, text=True, check=False)


def bash(*words: str) -> list[str]:
    """What bash is given for words that it has parted itself, the last of them under the cursor."""
    done = asked(
        {"_ABLITERATE_COMPLETE": "complete_bash", "COMP_WORDS": "\n".join(words), "COMP_CWORD": str(len(words) - 1)}
    )
    assert done.stderr == ""
    return done.stdout.split()


def zsh(line: str) -> str:
    return asked({"_ABLITERATE_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": line}).stdout


def fish(line: str, action: str = "get-args") -> subprocess.CompletedProcess[str]:
    return asked(
        {"_ABLITERATE_COMPLETE": "complete_fish", "_TYPER_COMPLETE_FISH_ACTION": action, "_TYPER_COMPLETE_ARGS": line}
    )


def test_a_model_is_followed_by_the_flags_of_run() -> None:
    for shown in (bash("abliterate", "org/name", ""), bash("abliterate", "org/name", "--")):
        assert {"--layer", "--mode", "--out", "--edited-dtype"} <= set(shown)
        assert set(bash("abliterate", "run", "org/name", "--")) <= set(shown)
    assert '"--layer"' in zsh("abliterate org/name ")
    assert "--layer\t" in fish("abliterate org/name ").stdout
    assert fish("abliterate org/name ", "is-args").returncode == 0


def test_verbs_are_offered_first() -> None:
    assert {"run", "evaluate", "heal", "export"} <= set(bash("abliterate", ""))
    assert bash("abliterate", "eval") == ["evaluate"]


def test_where_a_path_may_stand_the_shell_completes_files() -> None:
    assert bash("abliterate", "./mod") == []
    assert bash("abliterate", "run", "") == []
    assert bash("abliterate", "org/name", "--out", "") == []
    assert zsh("abliterate org/name --out ").strip() == "_files"
    assert fish("abliterate org/name --out ", "is-args").returncode == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["X", "--mode", ""], MODES),
        (["X", "--mode", "in"], ("induce",)),
        (["X", "--mode", "=", "in"], ("induce",)),
        (["X", "--mode", "="], MODES),
        (["X", "--direction", "p"], ("projected",)),
        (["X", "--sites", "attn,"], ("attn,embed", "attn,mlp")),
        (["X", "--save", "checkpoint,g"], ("checkpoint,gguf-adapter",)),
        (["X", "--thinking", "o"], ("on", "off")),
        (["X", "--device", "c"], ("cpu", "cuda")),
        (["X", "--dtype", "b"], ("bfloat16", "bf16")),
        (["X", "--edited-dtype", "f"], ("float16", "fp16", "float32", "fp32")),
        (["X", "--harmful", "b"], PROMPT_LISTS),
        (
            ["X", "--harmful", "builtin", ":"],
            ("harmful", "harmless", "look-alikes", "look-alikes-report", "everyday", "operator-rules", "slop"),
        ),
        (["X", "--harmless", "builtin", ":", "l"], ("look-alikes", "look-alikes-report")),
        (["X", "--harmless", "builtin", ":", "harmless", "--mode", "h"], ("harden",)),
        (["evaluate", "X", "--split", ""], MEASURED_SPLITS),
        (["evaluate", "X", "--look-alikes", "b"], PROMPT_LISTS),
        (["heal", "X", "--method", ""], TRAINING_METHODS),
        (["export", "X", "--to", ""], tuple(EXPORT_FORMS)),
        (["export", "X", "--leave-out", "e"], ("embed",)),
    ],
    ids=lambda given: " ".join(given) or "nothing",
)
def test_values_are_completed(words: list[str], expected: tuple[str, ...]) -> None:
    assert sorted(bash("abliterate", *words)) == sorted(expected)


def test_completion_is_instant() -> None:
    """Nothing that takes seconds is imported."""
    script = f"import atexit; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); {COMMAND}"
    environment = {"_ABLITERATE_COMPLETE": "complete_bash", "COMP_WORDS": "abliterate X --dtype ", "COMP_CWORD": "3"}
    whole = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    done = subprocess.run([sys.executable, "-c", script], env=whole, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "False"
    assert "bf16" in done.stdout


def test_a_first_word_that_is_no_verb_belongs_to_the_run() -> None:
    assert DEFAULT_VERB == "run"


VERBS = list(typer.main.get_command(app).commands)  # type: ignore[attr-defined]


@pytest.mark.parametrize("word", ["evalute", "Evaluate", "evaluat", "inpsect", "ru", "chatt", "pssh", "exprot"])
def test_a_mistyped_verb_is_no_model(word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=rf"^{word}: no such verb; did you mean \w+\? .* abliterate run {word}$"):
        check_verb(word, VERBS)
    (tmp_path / word).mkdir()
    check_verb(word, VERBS)


@pytest.mark.parametrize(
    "word", ["gpt2", "org/evaluate", "./evaluate", "distilgpt2", "model", "qwen", "phi-2", "--layer", ""]
)
def test_names_of_models_are_no_mistyped_verbs(word: str) -> None:
    check_verb(word, VERBS)


def test_a_mistyped_verb_is_one_line(refused: Callable[..., str]) -> None:
    said = "abliterate: evalute: no such verb; did you mean evaluate? For a model of this name: abliterate run evalute"
    assert refused("evalute", "x") == said
