"""Flags derive from declared options: which there are, what reaches a verb, what is refused."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import pytest
import typer
from typer.main import get_command
from typer.testing import CliRunner

from abliterate import cli
from abliterate.cli.app import app
from abliterate.cli.declared import declared, flags
from abliterate.errors import InputError
from abliterate.pipeline.condition_options import SaidConditions
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.options import ModelOptions, Options
from abliterate.records.option import PANELS, Declaration, declarations, flag_of, names_of, option, panel_of
from abliterate.training.harden_options import HardenOptions
from fixtures.option_values import CLASSES

OWN = {
    "--json", "--help", "--push", "--directions", "--recipe", "--against", "--csv", "--markdown", "--open",
    "--dataset", "--row", "--words", "--config", "--port",
}  # fmt: skip
"""Flags that one verb has for itself."""


def commands() -> Iterator[Any]:
    yield from get_command(app).commands.values()  # type: ignore[attr-defined]


def callable_ones() -> Iterator[Any]:
    """The verbs, and in the place of a family its members."""
    for one in commands():
        yield from getattr(one, "commands", {one.name: one}).values()


def test_every_flag_is_a_declared_option_or_listed_here() -> None:
    known = {
        word for options in CLASSES for name, one in declarations(options).items() if one.offered for word in names_of(flag_of(name, one))
        if word.startswith("--")
    }  # fmt: skip
    seen = {
        word for one in callable_ones() for parameter in one.params for word in parameter.opts if word.startswith("--")
    }
    assert seen - known <= OWN
    assert OWN - {"--help"} <= seen
    assert known - {"--model", "--edit"} <= seen  # which stand without a flag where they are required


def test_known_words_are_offered_by_every_verb_that_takes_them() -> None:
    """A flag may mean different things to different verbs, as --method does: it offers the words of one of its declarations."""
    words: dict[str, set[tuple[str, ...]]] = {}
    for options in CLASSES:
        for name, one in declarations(options).items():
            words.setdefault(flag_of(name, one), set()).add(one.words)
    for command in callable_ones():
        for parameter in command.params if command.name != "export" else ():
            known = words.get(parameter.opts[0], set())

            def offered(word: str, command: Any = command, parameter: Any = parameter) -> bool:
                return word in [one.value for one in parameter.shell_complete(typer.Context(command), word)]

            assert not known or any(all(map(offered, one)) for one in known), (command.name, parameter.opts[0])


def test_help_has_a_panel_for_each_kind_of_verb() -> None:
    said = CliRunner().invoke(app, ["--help"]).output
    places = [said.index(f" {panel} ─") for panel in ("edit", "measure", "look", "ship", "study")]
    assert places == sorted(places)
    assert {one.rich_help_panel for one in commands()} <= {"edit", "measure", "look", "ship", "study"}


def test_every_option_of_every_verb_stands_in_a_panel_and_panels_in_one_order() -> None:
    for command in callable_ones():
        context = command.make_context(command.name, [], resilient_parsing=True)
        options = [one for one in command.get_params(context) if one.param_type_name == "option"]
        headings = [one.rich_help_panel for one in options]
        assert set(headings) <= set(PANELS), (
            command.name,
            [one.opts for one in options if one.rich_help_panel is None],
        )
        places = [PANELS.index(one) for one in headings[: len(command.params)] if one]
        own = places[: len([one for one in command.params if one.param_type_name == "option"])]
        assert own == sorted(own)


def test_every_declared_option_is_about_something() -> None:
    for options in CLASSES:
        for name, one in declarations(options).items():
            assert panel_of(options, name) in PANELS or not one.offered, (options, name)
    assert (panel_of(Options, "device"), panel_of(Options, "layer")) == ("hardware", "edit")


def test_the_help_of_every_verb_ends_with_two_examples_that_parse() -> None:
    group: Any = get_command(app)
    for command in callable_ones():
        title, *examples = command.epilog.split("\n\n")
        assert title == "[bold]Examples[/bold]"
        assert len(set(examples)) == 2, command.name
        for example in examples:
            first, *words = shlex.split(example.replace("\\[", "["))
            assert first == "abliterate"
            found = group.commands.get(words[0])
            if found is None:  # a model
                found, words = group.commands["run"], ["run", *words]
            elif hasattr(found, "commands"):
                found, words = found.commands[words[1]], words[1:]
            assert found.name == command.name
            found.make_context(words[0], words[1:])
    said = CliRunner().invoke(app, ["push", "--help"], env={"COLUMNS": "200"}).output
    assert said.rstrip().splitlines()[-1].strip().startswith("abliterate push ./edited me/edited --public")


def test_every_verb_has_its_work_and_its_flags_and_no_others() -> None:
    folder = Path(cli.__file__).parent
    names = {one.name for one in commands()}
    work = {path.stem for path in folder.with_name("commands").glob("*.py")} - {"__init__", "harden"}
    assert work == names
    assert {path.stem for path in folder.glob("*.py")} >= names


def typed(verb: Callable[..., None], *words: str) -> tuple[int, BaseException | None]:
    """Run a verb with words; return the exit code and what it raised."""
    one = typer.Typer()
    one.command()(declared(verb))
    done = CliRunner().invoke(one, list(words))
    return done.exit_code, done.exception


def test_a_verb_is_called_with_values() -> None:
    seen: list[Any] = []

    def verb(options: Options, harden_options: HardenOptions | None) -> None:
        seen.append((options, harden_options))

    words = [
        "org/name",
        "--layer",
        "3",
        "--sites",
        "attn, mlp",
        "--max-memory",
        "1KiB",
        "--dtype",
        "bf16",
        "--optimize",
    ]
    assert typed(verb, *words)[0] == 0
    assert (
        typed(verb, "org/name", "--system", "", "--chat-template", "", "--edited-dtype", "auto", "--rank", "2")[0] == 0
    )
    out = Path("name-abliterated")
    assert seen == [
        (
            Options("org/name", out, layer=3, sites=("attn", "mlp"), max_memory=1024, dtype="bfloat16", optimize=True),
            None,
        ),
        (Options("org/name", out), HardenOptions(rank=2)),
    ]


def test_a_verb_has_the_flags_that_it_names() -> None:
    seen: list[ModelOptions] = []

    def verb(
        options: Annotated[ModelOptions, flags("offline", model=Declaration("It.", usual=lambda _: "none"))],
    ) -> None:
        seen.append(options)

    assert typed(verb, "--offline")[0] == 0
    assert typed(verb, "--model", "a/b")[0] == 0
    assert seen == [ModelOptions("none", offline=True), ModelOptions("a/b")]
    assert typed(verb, "--seed", "1")[0] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["m", "--layer", "last"], "--layer last: give a whole number or auto"),
        (["m", "--save", ""], "--save : choose among checkpoint, adapter, gguf-adapter"),
        (["m", "--max-memory", "much"], "--max-memory much: give a size such as 16GB or 900MB"),
        (["m", "--edited-dtype", "int3"], "--edited-dtype int3: unknown; choose auto, bfloat16"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_flag(words: list[str], message: str) -> None:
    def verb(options: Options) -> None:
        raise AssertionError

    error = typed(verb, *words)[1]
    assert isinstance(error, InputError)
    assert str(error).startswith(message)


def test_of_an_export_the_flags_are_not_the_fields() -> None:
    seen: list[ExportOptions] = []

    def verb(export_options: ExportOptions) -> None:
        seen.append(export_options)

    assert typed(verb, "dir", "--to", "control-vector", "--layer", "3,4", "--leave-out", "embed")[0] == 0
    assert seen == [ExportOptions(Path("dir"), "control-vector", ("embed",), None, (3, 4))]
    assert (
        str(typed(verb, "dir", "--to", "adapter", "--layer", "3,x")[1]) == "--layer 3,x: give whole numbers by commas"
    )
    assert typed(verb, "dir")[0] == 2


def test_what_was_not_said_is_not_said_by_a_default() -> None:
    seen: list[tuple[SaidConditions, EvaluateOptions]] = []

    def verb(said: SaidConditions, evaluate_options: EvaluateOptions) -> None:
        seen.append((said, evaluate_options))

    assert typed(verb, "--tasks", "mmlu, gsm8k")[0] == 0
    assert typed(verb, "--system", "", "--chat-template", "", "--thinking", "on", "--look-alikes", "none")[0] == 0
    first, second = seen
    assert (first[0].said, first[1].tasks, first[1].look_alikes) == (set(), ("mmlu", "gsm8k"), "builtin:look-alikes")
    assert second[0].said == {"system", "chat_template", "thinking"}
    asked = second[0].on(Options("m", Path("o"), system="Be brief.", chat_template=Path("own.jinja")))
    assert (asked.system, asked.chat_template, asked.thinking) == (None, None, "on")
    assert second[1].look_alikes is None


def test_a_bound_is_held() -> None:
    @dataclass(frozen=True)
    class Bounded:
        count: int = option(9, Declaration("How many.", read=int, kind=int, least=8))

    def verb(bounded: Bounded) -> None:
        raise AssertionError

    verb.__annotations__["bounded"] = Bounded
    assert typed(verb, "--count", "7")[0] == 2


def test_settings_of_training_are_for_hardening() -> None:
    words = [sys.executable, "-m", "abliterate", "org/name", "--steps", "3"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--steps, --learning-rate, --rank, --ablate-probability: are for --mode harden" in done.stderr


def test_no_verb_knows_another() -> None:
    for path in Path(cli.__file__).parent.with_name("commands").glob("*.py"):
        assert "abliterate.commands" not in path.read_text(), path.name
