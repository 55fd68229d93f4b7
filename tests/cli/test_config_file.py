"""`--config FILE`: what stands in a file is what would be typed; the command line has the say."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.main import get_command
from typer.testing import CliRunner

from abliterate.cli.app import app
from abliterate.cli.config_file import TYPED_ONLY, keys_of, read_toml, read_yaml
from abliterate.cli.declared import declared
from abliterate.models.source import resolve
from abliterate.pipeline import command
from abliterate.pipeline.command import RUN_OPTIONS
from abliterate.pipeline.options import Options
from abliterate.records.option import flag_of
from abliterate.storage.names import TEMPLATE
from fixtures.option_values import values_of
from fixtures.tiny_chat import TINY

FILES = ("harmful", "harmless", "chat_template", "look_alikes", "report_look_alikes", "keep", "phrases", "forms")


def seen_of(*words: str) -> tuple[Options | None, BaseException | None]:
    """What reaches a verb that takes the options of a run, and what it raised."""
    seen: list[Options] = []

    def verb(options: Options) -> None:
        seen.append(options)

    one = typer.Typer()
    one.command()(declared(verb))
    done = CliRunner().invoke(one, list(words))
    return (seen[0] if seen else None), done.exception


def values(name: str) -> st.SearchStrategy[Any]:
    one = RUN_OPTIONS[name]
    if one.switch or one.least is None:
        return st.booleans() if one.switch else values_of(Options, name)
    return st.integers(int(one.least), 9999)


def every_option() -> st.SearchStrategy[dict[str, Any]]:
    """Any options of a run that a record may decide, but for the files."""
    own = {name: values(name) for name, one in RUN_OPTIONS.items() if one.recorded and name not in FILES}
    return st.fixed_dictionaries({}, optional=own)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(every_option())
def test_the_file_that_a_run_leaves_gives_its_options_again(tmp_path: Path, changes: dict[str, Any]) -> None:
    options = Options(str(TINY), Path("tiny-chat-abliterated"), **changes)
    path = tmp_path / "abliterate.toml"
    path.write_text(command.settings(resolve(str(TINY)), options), encoding="utf-8")
    found, error = seen_of(str(TINY), "--out", str(options.out), "--config", str(path))
    assert found == options, error


@pytest.mark.parametrize("name", [name for name, one in RUN_OPTIONS.items() if one.here and not one.argument])
def test_what_is_of_this_machine_may_stand_in_a_file_too(name: str, tmp_path: Path) -> None:
    one = RUN_OPTIONS[name]
    path = tmp_path / "own.toml"
    said = {"max_memory": "2KiB", "out": "there", "device": "cpu"}.get(name)
    path.write_text(f"{flag_of(name, one)[2:]} = {json.dumps(said) if said else 'true'}")
    found, error = seen_of("m", "--config", str(path))
    typed, _ = seen_of("m", flag_of(name, one), *([said] if said else []))
    assert found == typed != seen_of("m")[0], error


def test_yaml_holds_texts_as_they_are_written(tmp_path: Path) -> None:
    path = tmp_path / "own.yaml"
    path.write_text("thinking: off\noptimize: off\nsites: [attn, mlp]\nn_train: 9\ndate: 2024-05-01\nlayer: 3\n")
    found, _ = seen_of("m", "--config", str(path))
    assert found is not None
    assert (found.thinking, found.optimize, found.sites, found.n_train) == ("off", False, ("attn", "mlp"), 9)
    assert (found.date, found.layer) == ("2024-05-01", 3)


def test_a_flag_wins_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('model = "from-file"\nseed = 3\nn-train = 9\noptimize = false\n')
    found, _ = seen_of("typed", "--seed", "4", "--optimize", "--config", str(path))
    assert found is not None
    assert (found.model, found.seed, found.n_train, found.optimize) == ("typed", 4, 9, True)
    named, _ = seen_of("--config", str(path))
    assert named is not None
    assert named.model == "from-file"


def test_files_that_lie_beside_are_those_that_are_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").mkdir()
    for name in ("bad.txt", TEMPLATE):
        (tmp_path / "kept" / name).touch()
    path = tmp_path / "kept" / "own.toml"
    path.write_text(f'harmful = "bad.txt"\nharmless = "good.csv:column"\nchat-template = "{TEMPLATE}"\n')
    monkeypatch.chdir(tmp_path)
    found, _ = seen_of("m", "--config", "kept/own.toml")
    assert found is not None
    assert (found.harmful, found.chat_template) == ("kept/bad.txt", Path("kept") / TEMPLATE)
    assert found.harmless == "good.csv:column"  # which is looked for from here, as typed


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "n_trian = 9", "n_trian: verb has no such option; did you mean n-train?"),
        ("a.toml", "zzzz = 9", "zzzz: verb has no such option; --help lists those that there are"),
        ("a.toml", "n-train = 3", "n-train: give at least 8"),
        ("a.toml", "n-train = 'many'", "n-train: give a whole number, not 'many'"),
        ("a.yml", "layer: last", "layer: give a whole number or auto"),
        ("a.toml", "thinking = true", "thinking: is no switch: give a text, between quotes"),
        ("a.toml", "force = 'maybe'", "force: is a switch: give true or false"),
        ("a.toml", "[edit]\nlayer = 3", "edit: verb has no such option"),
        ("a.toml", "[layer]\nx = 3", "layer: give one value, or leave it out"),
        ("a.yaml", "layer: ~", "layer: give one value, or leave it out"),
        ("a.toml", "n-train = 9\nn_train = 9", "n_train: stands there twice"),
        ("a.toml", "output-dir = 'a'\nout = 'b'", "out: stands there twice"),
        ("a.yaml", "seed: 1\nseed: 2", "cannot be read (seed stands there twice)"),
        ("a.toml", "seed = ", "cannot be read (Invalid value"),
        ("a.yaml", "- seed", "expected a table"),
        ("a.toml", "trust-remote-code = true", "runs code that comes with the model"),
        ("a.toml", "token = 'x'", "is a secret"),
        ("a.toml", "config = 'x'", "a file names no other"),
        ("a.json", "{}", "give a file whose name ends in .toml, .yaml or .yml"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_one_line(name: str, text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    found, error = seen_of("m", "--config", str(tmp_path / name))
    assert found is None
    assert message in str(error)
    assert name in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize("reader", [read_toml, read_yaml])
def test_a_file_that_is_none_is_refused(reader: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        reader("a: [")


def test_no_file_is_one_line(tmp_path: Path) -> None:
    for path in (tmp_path / "none.toml", tmp_path):
        assert "--config" in str(seen_of("m", "--config", str(path))[1])
    large = tmp_path / "large.toml"
    large.write_bytes(b"#" * (2 << 20))
    assert "no file of options" in str(seen_of("m", "--config", str(large))[1])


def test_every_option_of_every_verb_has_a_key_of_its_own() -> None:
    for verb in get_command(app).commands.values():  # type: ignore[attr-defined]
        for one in getattr(verb, "commands", {verb.name: verb}).values():
            keys = [key for parameter in one.params for key in keys_of(parameter)]
            assert len(keys) == len(set(keys)) >= len(one.params), one.name
            assert "config" in keys
            assert set(TYPED_ONLY) - {"json"} <= set(keys)
