"""What is said beside the work of a verb: under which names, what it changes, and that nothing of it stays."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from typer.main import get_command

from abliterate import cli
from abliterate.cli.app import app
from abliterate.cli.failures import masked
from abliterate.cli.surroundings import CACHE, NO_BARS, TOKEN, Surroundings, kept
from abliterate.cli.terminal import QUIET, note
from abliterate.errors import InputError
from abliterate.hub.download import download
from abliterate.pipeline.options import Options
from fixtures.tiny_chat import TINY

KEY = "a-token-of-no-known-form"


def verbs() -> list[Any]:
    found = get_command(app).commands.values()  # type: ignore[attr-defined]
    return [one for verb in found for one in getattr(verb, "commands", {verb.name: verb}).values()]


@pytest.mark.parametrize("verb", verbs(), ids=lambda verb: verb.name)
def test_every_verb_is_quiet_and_asks_the_hub_in_the_same_words(verb: Any) -> None:
    names = {name for one in verb.params for name in one.opts}
    assert {"--quiet", "-q"} <= names
    reaches = "--offline" in names or verb.name == "push"
    assert {"--token", "--cache-dir"} & names == ({"--token", "--cache-dir"} if reaches else set())
    assert {"--out", "--output-dir", "-o"} & names in (set(), {"--out", "--output-dir", "-o"})


def test_no_option_of_a_run_is_one_of_these() -> None:
    assert not {"token", "cache_dir", "quiet"} & set(Options.__dataclass_fields__)


def test_the_token_is_the_one_that_the_hub_is_asked_with_and_is_shown_nowhere() -> None:
    before = os.environ.get(TOKEN)
    with kept():
        Surroundings(token=KEY).take_effect()
        assert huggingface_hub.get_token() == KEY
        assert masked(f"asked with {KEY}") == "asked with ***"
    assert os.environ.get(TOKEN) == before


def test_the_cache_is_where_it_was_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def fetched(*arguments: object, **named: object) -> str:
        asked.append(named["cache_dir"])
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", fetched)
    monkeypatch.delenv(CACHE, raising=False)
    monkeypatch.chdir(tmp_path)
    with kept():
        Surroundings(cache_dir=Path("own")).take_effect()
        download("org/name", None, False)
    download("org/name", None, False)
    assert asked == [str(tmp_path / "own"), None]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"token": ""}, "--token: is empty, or has a character that no token has"),
        ({"token": "hf_a b"}, "--token: is empty, or has a character that no token has"),
        ({"cache_dir": TINY / "config.json"}, "is no folder; give another"),
    ],
)
def test_what_can_be_no_token_or_folder(given: dict[str, Any], message: str) -> None:
    with kept(), pytest.raises(InputError, match=message):
        Surroundings(**given).take_effect()


def test_quiet_lasts_as_long_as_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with kept():
        Surroundings(quiet=True).take_effect()
        assert all(os.environ[name] == "1" for name in NO_BARS)
        note("aside")
    assert not QUIET.get()
    assert capsys.readouterr() == ("", "")
    note("aside")
    assert capsys.readouterr() == ("", "aside\n")


@pytest.mark.parametrize(("words", "held"), [(["-q"], False), (["--quiet", "--json"], True)])
def test_a_quiet_verb_says_the_object_or_nothing(
    capsys: pytest.CaptureFixture[str], words: list[str], held: bool
) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["inspect", str(TINY), *words])
    out, err = capsys.readouterr()
    assert (stop.value.code, err) == (0, "")
    assert bool(out) == held
    assert not held or json.loads(out)["layers"] == 8


def test_a_quiet_verb_says_its_errors(refused: Callable[..., str]) -> None:
    assert refused("inspect", TINY / "nowhere", "--quiet").endswith("nor a model's address")


def test_the_folder_of_the_result_has_the_names_of_other_tools(tmp_path: Path, refused: Callable[..., str]) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "x").touch()
    for name in ("--out", "-o", "--output-dir"):
        said = refused("apply", TINY, "--directions", TINY / "none", name, tmp_path / "there")
        assert "there" in said, name
