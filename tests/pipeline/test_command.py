"""The command that a manifest holds, and what it may decide where it is read back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import abliterate
from abliterate.errors import InputError
from abliterate.models.source import resolve
from abliterate.pipeline.command import RECORDED, RUN_OPTIONS, beside, command, options_of_command, settled, told
from abliterate.pipeline.load import load_run
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT
from abliterate.storage.names import TEMPLATE
from fixtures.option_values import values_of
from fixtures.tiny_chat import options

TINY = str(Path(abliterate.__file__).parent / "data" / "tiny-chat")

FILES = ("harmful", "harmless", "chat_template")
"""Options that name a file beside the manifest."""


def asked() -> st.SearchStrategy[dict[str, Any]]:
    """Any options that a record may decide, but for the files."""
    own = {name: values_of(Options, name) for name in RECORDED if name not in FILES}
    switches = {name: st.booleans() for name, one in RUN_OPTIONS.items() if one.switch and one.recorded}
    return st.fixed_dictionaries({}, optional=own | switches)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50, deadline=None)
@given(asked())
def test_the_words_of_a_run_give_its_options_again(changes: dict[str, Any]) -> None:
    # A run settles whether it searches before it records anything.
    options = Options(TINY, Path("edited"), **{"optimize": False, **changes})
    found = options_of_command(command(options, resolve(TINY)), Path())
    assert Options(TINY, Path("edited"), **found) == options


def test_files_are_those_beside_the_manifest(tmp_path: Path) -> None:
    for name in ("bad.txt", "good.csv", TEMPLATE):
        (tmp_path / name).touch()
    options = Options(
        TINY, tmp_path / "o", harmful=str(tmp_path / "bad.txt"), harmless=f"{tmp_path}/good.csv:column",
        chat_template=tmp_path / TEMPLATE, optimize=True,
    )  # fmt: skip
    words = command(options, resolve(TINY))
    assert str(tmp_path) not in " ".join(words)
    assert Options(TINY, tmp_path / "o", **options_of_command(words, tmp_path)) == options


@pytest.mark.parametrize(("words", "searched"), [(["--optimize"], True), (["--no-optimize"], False), ([], False)])
def test_a_record_from_before_the_search_was_the_default_had_none(words: list[str], searched: bool) -> None:
    assert Options("a/b", Path("o"), **options_of_command(["abliterate", "a/b", *words], Path())).searches is searched


@pytest.mark.parametrize("name", [name for name, one in RUN_OPTIONS.items() if one.here and name != "out"])
def test_what_is_of_this_machine_is_not_a_manifests_to_say(name: str) -> None:
    with pytest.raises(InputError, match="which this version does not know"):
        told(["abliterate", "a/b", f"--{name.replace('_', '-')}", "1"])


@pytest.mark.parametrize("name", [name for name, one in RUN_OPTIONS.items() if one.refused])
def test_what_a_manifest_may_not_decide_is_passed_over(name: str) -> None:
    assert told(["abliterate", "a/b", f"--{name.replace('_', '-')}", "--seed", "1"]) == {"seed": "1"}


def test_a_link_beside_the_manifest_is_not_followed_out_of_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "got"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret line\n" * 9)
    for target in ("../secret.txt", str(tmp_path / "secret.txt")):
        (folder / "harmful.txt").symlink_to(target)
        with pytest.raises(InputError, match=r"harmful.txt: is a link out of the manifest's folder.* --harmful"):
            beside("harmful.txt", folder, "harmful")
        (folder / "harmful.txt").unlink()
    (folder / "own.txt").write_text("line")
    (folder / "harmful.txt").symlink_to("own.txt")
    assert beside("harmful.txt", folder, "harmful") == folder / "harmful.txt"


def test_the_command_of_a_run_has_the_day_that_its_template_wrote(tmp_path: Path) -> None:
    dated = tmp_path / "dated.jinja"
    dated.write_text("{# {{ strftime_now('%d %b %Y') }} #}" + (Path(TINY) / "chat_template.jinja").read_text())
    given = options(tmp_path / "out", chat_template=dated)
    loaded = load_run(given, SILENT)
    words = command(settled(given, loaded.options), loaded.source)
    assert loaded.splits.chat.moment is not None
    assert words[words.index("--date") + 1] == loaded.splits.chat.moment
    assert "--date" not in command(given, loaded.source)  # before it was settled
