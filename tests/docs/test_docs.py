"""What README.md and the pages under docs/ say can be done, done: on the tiny model where a block is marked, parsed where not.

A fenced block under `<!-- test -->` runs, in the order of its page, in a folder that sees the repository's `abliterate/` and,
for the pages of verbs, `edited`: what `abliterate demo --out edited` leaves. Python blocks of a page share their names;
commands may set and use variables. A block under `<!-- file: NAME -->` is written to that file. Every other command that is
shown, in blocks and in running text, must parse: its verb and all its flags exist, and so does the script that it names.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import pkgutil
import re
import shlex
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from string import Template
from typing import Any

import pytest
import typer

from abliterate import cli
from abliterate.cli.app import app

ROOT = Path(__file__).parents[2]
SOURCES = [
    path.relative_to(ROOT).as_posix()
    for room in ("abliterate", "benchmarks", "docs", "examples", "tests", "tools")
    for path in (ROOT / room).rglob("*.*")
]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"(?:<!-- (test|file: (?P<file>\S+)) -->\n)?^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
ASSIGNMENT = re.compile(r"(\w+)=(\S+)")
DEMO = ["demo", "--out", "edited"]
"""Many pages begin with it: it runs once."""
SLOW = re.compile(r"docs/(tutorials/.*|library|studies/(clusters|positions)|verbs/(reproduce|run))\.md")
"""Pages whose blocks take seconds."""
USAGE_ERROR = typer.BadParameter.__mro__[1]
"""What typer raises for words that do not parse, wherever it keeps it."""


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def runnable(page: Path) -> bool:
    return "<!-- test -->" in page.read_text(encoding="utf-8")


def lines(text: str) -> Iterator[str]:
    """The commands of a block, continued lines joined."""
    yield from filter(None, (line.strip() for line in text.replace("\\\n", " ").splitlines()))


def blocks_of(page: Path) -> Iterator[str]:
    """Every line of the blocks that show commands, indented or fenced."""
    text = page.read_text(encoding="utf-8")
    fenced = [match["text"] for match in BLOCK.finditer(text) if match["language"] in ("bash", "text")]
    indented = [line for line in BLOCK.sub("", text).splitlines() if line.startswith("    ")]
    yield from lines("\n".join([*fenced, *indented]))


def spans_of(page: Path) -> list[str]:
    """What stands between backquotes in running text."""
    return re.findall(r"`([^`]+)`", BLOCK.sub("", page.read_text(encoding="utf-8")).replace("\n", " "))


def words_after(line: str, command: str) -> list[str] | None:
    """The arguments of `command` in a line, up to what explains it (two spaces), a pipe or the next command."""
    found = re.search(rf"(?:^|&& |-m |\s){command} (\S.*?)(?:\s{{2,}}|\s&&|\s\||$)", line)
    return shlex.split(found[1], comments=True) if found else None


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """What `abliterate demo --out edited` leaves, and what it prints on the terminal that the README shows."""
    folder = tmp_path_factory.mktemp("docs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("COLUMNS", "96")
        printed = run_command(DEMO)
    return folder / "edited", printed


def run_command(words: list[str]) -> str:
    """Run `abliterate` in this process; return what it printed. It must end well."""
    said, errors = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(errors), pytest.raises(SystemExit) as stop:
        cli.main(words)
    assert not stop.value.code, (words, errors.getvalue())
    return said.getvalue()


class Session:
    """A reader who follows a page from top to bottom."""

    def __init__(self, edited: Path) -> None:
        self.edited = edited
        self.variables: dict[str, str] = {}
        self.names: dict[str, Any] = {}

    def commands(self, text: str) -> None:
        for line in lines(text):
            if assigned := ASSIGNMENT.fullmatch(line):
                self.variables[assigned[1]] = assigned[2]
                continue
            command, *words = shlex.split(Template(line).substitute(self.variables), comments=True)
            assert command == "abliterate", f"only abliterate runs in a marked block: {line}"
            if words == DEMO:
                shutil.copytree(self.edited, "edited", dirs_exist_ok=True)
            else:
                run_command(words)

    def python(self, text: str) -> None:
        exec(compile(text, "<page>", "exec"), self.names)


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")  # peft asks transformers for it
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, id=name_of(page), marks=[pytest.mark.slow] if SLOW.fullmatch(name_of(page)) else [])
        for page in PAGES
        if runnable(page)
    ],
)
def test_what_a_page_shows_runs(
    page: Path, demo: tuple[Path, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    edited, _ = demo
    (tmp_path / "abliterate").symlink_to(ROOT / "abliterate")
    if page.parent.name == "verbs":
        shutil.copytree(edited, tmp_path / "edited")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"What is a kettle?\n")))
    blocks = list(BLOCK.finditer(page.read_text(encoding="utf-8")))
    for block in blocks:
        if block["file"]:
            Path(block["file"]).write_text(block["text"], encoding="utf-8")
    session = Session(edited)
    for block in blocks:
        if block[1] == "test":
            {"bash": session.commands, "python": session.python}[block["language"]](block["text"])


@functools.cache
def command_line() -> Any:
    """The whole command line, which takes long to build."""
    return typer.main.get_command(app)


def complaint(line: str) -> Any:
    """What the command line says of a command that is shown, before it would run; None where it is content."""
    group = command_line()
    words = words_after(line, "abliterate")
    if not words or words[0] in ("--install-completion", "--help", "--version"):
        return None
    verb, arguments = (words[0], words[1:]) if words[0] in group.commands else ("run", words)
    command = group.commands[verb]
    while hasattr(command, "commands") and arguments and arguments[0] in command.commands:  # a family
        command, verb, arguments = command.commands[arguments[0]], arguments[0], arguments[1:]
    if "--config" in arguments:  # what it says can be known only where the file is
        place = arguments.index("--config")
        arguments = [*arguments[:place], *arguments[place + 2 :]]
    try:
        command.make_context(verb, list(arguments))
    except USAGE_ERROR as error:
        return error
    return None


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_shown_parses(page: Path) -> None:
    for line in blocks_of(page):
        assert complaint(line) is None, line
    for span in spans_of(page):
        # In running text a verb stands for itself, or with the one flag that is meant.
        said = complaint(span) if span.startswith("abliterate ") else None
        assert said is None or type(said).__name__ == "MissingParameter", (span, said)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_script_that_is_shown_is_there_and_knows_its_flags(page: Path) -> None:
    for line in (*blocks_of(page), *spans_of(page)):
        words = words_after(line, "python")
        if words and words[0].endswith(".py"):
            script = ROOT / words[0]
            assert script.is_file(), line
            text = with_those_beside_it(script)
            assert not [word for word in words if word.startswith("--") and f'"{word}"' not in text], line


def with_those_beside_it(script: Path) -> str:
    """Return the text of a script and of the files of its own folder that it takes something from: they may read flags for it."""
    text = script.read_text(encoding="utf-8")
    beside = [script.parent / f"{name}.py" for name in re.findall(r"^ *(?:from|import) (\w+)", text, re.MULTILINE)]
    return "\n".join([text, *(one.read_text(encoding="utf-8") for one in beside if one.is_file())])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_file_and_name_that_is_shown_is_there(page: Path) -> None:
    for span in spans_of(page):
        if re.fullmatch(r"[\w/]+/\w+\.(py|js|jinja|md)", span):
            assert [path for path in SOURCES if f"/{path}".endswith(f"/{span}")], span
        if re.fullmatch(r"abliterate(\.\w+)+(\(.*\))?", span) and not span.endswith((".json", ".toml")):
            pkgutil.resolve_name(span.partition("(")[0])


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_python_that_is_shown_is_python(page: Path) -> None:
    for block in BLOCK.finditer(page.read_text(encoding="utf-8")):
        if block["language"] == "python":
            ast.parse(block["text"].rstrip().rstrip(","))


def test_the_commands_are_seen() -> None:
    readme = list(blocks_of(ROOT / "README.md"))
    assert sum(words_after(line, "abliterate") is not None for line in readme) >= 10
    assert words_after("abliterate evaluate DIR --against X   refusals, over-refusal", "abliterate") == [
        "evaluate", "DIR", "--against", "X",
    ]  # fmt: skip
    assert words_after("accelerate launch -m abliterate MODEL --optimize", "abliterate") == ["MODEL", "--optimize"]
    assert words_after("pip install -e . && abliterate demo", "abliterate") == ["demo"]
    assert complaint("abliterate MODEL --no-such-flag") is not None
    assert complaint("abliterate MODEL --n-train many") is not None


def test_every_verb_has_a_page_and_every_page_a_verb() -> None:
    group = command_line()
    pages = {path.stem for path in (ROOT / "docs" / "verbs").glob("*.md")} - {"index"}
    assert pages == set(group.commands)
    for verb in pages:
        assert f"<!-- flags: {verb} -->" in (ROOT / "docs" / "verbs" / f"{verb}.md").read_text(encoding="utf-8")


def folders() -> set[str]:
    """The rooms of the package: its folders that hold code."""
    package = ROOT / "abliterate"
    return {path.parent.name for path in package.glob("*/*.py")}


def test_the_layout_names_every_room_and_no_other() -> None:
    named = re.findall(r"^## (\w+)/$", (ROOT / "docs" / "layout.md").read_text(encoding="utf-8"), re.M)
    assert len(named) == len(set(named))
    assert set(named) == folders()


def test_the_readme_s_tree_names_every_room() -> None:
    tree = (ROOT / "README.md").read_text(encoding="utf-8").partition("\nabliterate/\n")[2].partition("```")[0]
    assert set(re.findall(r"^  (\w+)/", tree, re.M)) == folders() | {"data"}


def test_the_readme_is_short_and_holds_the_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 10_000
    assert len(re.findall(r"^    pip install -c constraints.txt .*$", text, re.M)) == 2


def test_the_run_in_the_readme_is_what_the_demo_prints(demo: tuple[Path, str]) -> None:
    _, printed = demo
    told = (ROOT / "README.md").read_text(encoding="utf-8").partition("```text\nabliterate\n")[2].partition("```")[0]
    # Rates and replies are the same on every machine; figures that hang on rounding, and times, are not.
    for label in ("refusals, harmful ", "refusals, harmless", "prompt ", "before ", "after "):
        one, other = (next(line for line in rows(text) if line.startswith(label)) for text in (told, printed))
        assert cells(one) == cells(other)


def rows(text: str) -> list[str]:
    return [line.strip("|│ ") for line in text.splitlines()]


def cells(line: str) -> list[str]:
    return [one.strip() for one in re.split(r"[|│]", line) if one.strip()]
