"""The command itself: progress bars, results on stdout, errors as one line and an exit code."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Annotated, Any, Literal, TypeVar, get_args

import typer
from rich.console import RenderableType
from rich.markup import escape
from typer.models import CommandInfo

import abliterate
from abliterate.cli.completion import DEFAULT_VERB, MISUSED, Family, Verb, Verbs, complete_bash, completing_bash
from abliterate.cli.declared import declared
from abliterate.cli.failures import UNFORESEEN, one_line, unforeseen
from abliterate.cli.step_panel import WISHED, StepPanel
from abliterate.cli.surroundings import kept
from abliterate.cli.terminal import QUIET, Terminal, harmless_libraries, say, say_json
from abliterate.errors import AbliterateError, InputError, flags_spoken

app = typer.Typer(
    name="abliterate",
    cls=Verbs,
    no_args_is_help=True,
    rich_markup_mode="rich",
    # Values of variables hold keys; `guarded` tells of what nobody foresaw.
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Find the refusal direction of an open-weight chat model, edit the weights along it, prove the edit, "
    "measure it, ship the checkpoint.\n\n"
    "[bold]abliterate MODEL --out DIR[/bold] does all of it; MODEL is a Hub id, a folder or a .gguf file. "
    "A first argument that is none of the verbs below is a model.\n\n"
    "Try [bold]abliterate demo[/bold] first: a tiny model that comes with the package, under a minute.",
)


def tell_version(asked: bool) -> bool:
    """Print the version and end, where it was asked for."""
    if asked:
        say(f"abliterate {abliterate.__version__}")
        raise typer.Exit
    return asked


@app.callback()
def whole(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=tell_version, is_eager=True)
    ] = False,
) -> None:
    """Take what stands before a verb."""


Panel = Literal["edit", "measure", "look", "ship", "study"]
"""What a verb is for: its heading in --help."""

INTERRUPTED = 130
SAID = "interrupted; nothing is half-written, the same command continues"

RESULT_SHOWN = threading.Event()
"""Whether the object of a result is on stdout."""


F = TypeVar("F", bound=Callable[..., None])


def verb(panel: Panel, *examples: str, hub: bool = False) -> Callable[[F], F]:
    """Make a function a verb of the command, its flags being the options that it takes; its help ends with `examples`.

    `hub` says that it reaches the Hub, which those that know --offline do.
    """

    def register(function: F) -> F:
        name, said = function.__name__, shown_examples(examples)
        app.command(name, cls=Verb, rich_help_panel=panel, epilog=said)(declared(function, hub))
        return function

    return register


def shown_examples(examples: Sequence[str]) -> str:
    """Return examples as the end of a help has them, a line each."""
    return "\n\n".join(["[bold]Examples[/bold]", *map(escape, examples)])


def family(name: str, panel: Panel, help: str) -> Callable[..., Callable[[F], F]]:
    """Return what makes functions the verbs of a family, as `abliterate NAME VERB`, given examples as `verb` is."""
    own = typer.Typer(name=name, cls=Family, no_args_is_help=True, rich_markup_mode="rich", help=help)
    app.add_typer(own, rich_help_panel=panel)

    def member(*examples: str) -> Callable[[F], F]:
        def register(function: F) -> F:
            own.command(function.__name__, cls=Verb, epilog=shown_examples(examples))(declared(function))
            return function

        return register

    return member


def in_order_of_help() -> None:
    """Put the verbs in the order of --help: by panel, the whole run first, then by name."""
    panels = get_args(Panel)

    def place(command: CommandInfo) -> tuple[int, bool, str]:
        name = command.name or ""
        return panels.index(command.rich_help_panel), name != DEFAULT_VERB, name

    app.registered_commands.sort(key=place)


def progress() -> StepPanel:
    """Return the panel on stderr, and turn off the bars of transformers."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    return StepPanel(Terminal(stderr=True, quiet=QUIET.get()))


def show(rendered: RenderableType, data: dict[str, Any], as_json: bool) -> None:
    """Print a result, for people or for programs; for people nothing where --quiet was said."""
    if as_json:
        say_json(data)
        RESULT_SHOWN.set()
    elif not QUIET.get():
        Terminal(soft_wrap=not sys.stdout.isatty()).print(rendered)


def main(arguments: list[str] | None = None) -> None:
    """Run the command; errors are one line on stderr, with --json an object on stdout too, and an exit code (2 input, 1 proof, 70 our fault, 130 Ctrl-C)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if completing_bash():
        return complete_bash(lambda: app(words, standalone_mode=True))
    quiet()
    with interruptible(), harmless_libraries(), kept(), flags_spoken():
        raise SystemExit(guarded(lambda: app(words, standalone_mode=True), asks_json(words)))


@contextmanager
def interruptible() -> Iterator[None]:
    """Inside the context a Ctrl-C is remembered: libraries lose one that comes while they are imported."""
    # Only the main thread may listen to signals, and whoever ignores or handles this one has the say.
    alone = threading.current_thread() is threading.main_thread()
    if not alone or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def remember(number: int, frame: FrameType | None) -> None:
        WISHED.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGINT, remember)
    WISHED.clear()
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def guarded(call: Callable[[], None], as_json: bool = False) -> int:
    """Call, and return the exit code; an error is a line on stderr, and `as_json` an object on stdout as well."""
    RESULT_SHOWN.clear()
    MISUSED.set(None)
    try:
        call()
    except AbliterateError as error:
        return failed(str(error), error.exit_code, as_json)
    except SystemExit as stop:
        # typer ends so for usage errors, of which it has spoken, --help, and Ctrl-C, of which it says nothing.
        if stop.code == INTERRUPTED:
            failed(SAID, INTERRUPTED, as_json)
        elif as_json and stop.code and MISUSED.get():
            say_json({"error": MISUSED.get(), "code": stop.code})
        raise
    except KeyboardInterrupt:
        return failed(SAID, INTERRUPTED, as_json)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            return failed(unforeseen(error), UNFORESEEN, as_json)
        said = f"{error.filename}: the name is too long for the file system; give a shorter one"
        return failed(said, InputError.exit_code, as_json)
    except Exception as error:  # noqa: BLE001 - what nobody foresaw; the log holds all of it but the values of variables
        return failed(unforeseen(error), UNFORESEEN, as_json)
    return 0


def failed(message: str, code: int, as_json: bool) -> int:
    """Say an error, and return its exit code: never a second object beside a result that is there already."""
    say(one_line(f"abliterate: {message}"), aside=True)
    if as_json and not RESULT_SHOWN.is_set():
        say_json({"error": one_line(message), "code": code})
    return code


def asks_json(words: Sequence[str]) -> bool:
    """Return whether --json stands among the words, before any program has read them."""
    return "--json" in words[: words.index("--")] if "--" in words else "--json" in words


def quiet() -> None:
    """Keep the libraries' own bars and advice out of ours; their errors still show."""
    for name, value in (
        ("TRANSFORMERS_VERBOSITY", "error"),
        ("HF_HUB_DISABLE_TELEMETRY", "1"),
        ("TOKENIZERS_PARALLELISM", "true"),
    ):
        os.environ.setdefault(name, value)
    logging.getLogger("accelerate.big_modeling").setLevel(logging.ERROR)  # that layers stream is said in our own words
