"""`abliterate chat`."""

from __future__ import annotations

import contextlib
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.live import Live
from rich.text import Text

from abliterate.chat.options import ChatOptions
from abliterate.cli.app import progress, verb
from abliterate.cli.declared import Against, flags
from abliterate.cli.terminal import Terminal, say_json
from abliterate.errors import AbliterateError, InputError
from abliterate.pipeline.condition_options import SaidTemplate
from abliterate.pipeline.options import AskOptions
from abliterate.records.option import Declaration

if TYPE_CHECKING:
    from abliterate.chat.conversation import ChatReply, Conversation
    from abliterate.chat.sides import ChatSides

CHATTING = flags(
    "dtype", "device", "max_memory", "offline", "trust_remote_code", "revision",
    model=Declaration(
        "A folder that abliterate wrote, any other model, or a PEFT adapter: folder or Hub id.",
        argument=True,
        metavar="DIR",
    ),
)  # fmt: skip

FRAMES = 15
"""Times a second, at most, that a growing reply is drawn."""

HELP = """\
/reset           begin a new conversation
/retry           take the last prompt again: other words at a temperature above 0
/temperature X   how freely words are drawn from now on; 0 takes the likeliest
/system TEXT     set the system message and begin a new conversation; without TEXT, none
/save FILE       write the conversation to a new JSON file, as messages of each side
/help            this
/exit            leave, as Ctrl-D, or Ctrl-C at the prompt
Ctrl-C during a reply stops that reply; what was said stays in the conversation. Twice: leaves at once.
A line that begins with a space is never a command. The history of lines is forgotten at the end."""


@verb("look", "abliterate chat ./edited", "abliterate chat ./edited --against org/model --temperature 0.7")
def chat(
    options: Annotated[AskOptions, CHATTING],
    said: SaidTemplate,
    chat_options: ChatOptions,
    against: Against = None,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object a turn on stdout: prompt, replies, refused, ended, system, thinking."
        ),
    ] = False,
) -> None:
    """Talk to a model; with --against ORIGINAL, to the edited and the original one at once.

    Lines from a pipe are one prompt each; /help lists commands.
    Ctrl-C stops a reply; at the prompt it leaves, with exit code 0, as Ctrl-D.
    """
    from abliterate.commands.chat import chat

    sides, conversations = chat(options, said, chat_options, against, progress())
    Talk(sides, conversations, as_json).run()


class Talk:
    """Reads lines, from a terminal or a pipe, and prints what is replied to them."""

    def __init__(self, sides: ChatSides, conversations: list[Conversation], as_json: bool) -> None:
        self.sides = sides
        self.conversations = conversations
        self.as_json = as_json
        self.typed = sys.stdin.isatty()
        self.console = Terminal(highlight=False, soft_wrap=not sys.stdout.isatty())
        self.aside = Terminal(stderr=True, highlight=False)

    def run(self) -> None:
        """Answer line after line until there are no more. Raises what a turn raises, unless someone is there to read it."""
        self.note(self.sides.note)
        self.note(" · ".join(f"{side.role}: {side.name}" for side in self.sides.sides))
        if self.typed:
            self.note("/help lists commands, Ctrl-C stops a reply, Ctrl-D leaves")
        commands: dict[str, Callable[[str], None]] = {
            "/help": lambda _: self.note(HELP),
            "/reset": lambda _: self.reset(self.conversations[0].chat.system),
            "/retry": lambda _: self.retry(),
            "/temperature": self.draw_at,
            "/system": lambda text: self.reset(text or None),
            "/save": self.save,
        }
        for line in lines(self.typed, not self.as_json):
            word, _, rest = line.partition(" ")
            if word == "/exit":
                return
            try:
                if word in commands:
                    commands[word](rest.strip())
                elif word.startswith("/"):
                    raise InputError(f"{word}: no such command; /help lists them, a space before it makes it a prompt")
                elif line.strip():
                    self.answer(line.strip())
            except AbliterateError as error:
                if not self.typed:
                    raise
                self.aside.print(Text(" ".join(str(error).split()), style="yellow"))

    def reset(self, system: str | None) -> None:
        """Begin a new conversation on every side."""
        for conversation in self.conversations:
            conversation.reset(system)
        self.note("new conversation")

    def retry(self) -> None:
        """Take the last prompt again. Raises InputError where there is none."""
        prompt = self.conversations[0].last_prompt
        if prompt is None:
            raise InputError("/retry: nothing was said yet in this conversation")
        for conversation in self.conversations:
            conversation.take_back()
        self.answer(prompt)

    def draw_at(self, text: str) -> None:
        """Set the temperature on every side. Raises InputError for what is none."""
        try:
            temperature = float(text)
        except ValueError:
            temperature = math.nan
        if not 0 <= temperature < math.inf:
            raise InputError(f"/temperature {text}: give a number from 0 on, such as 0.7")
        for conversation in self.conversations:
            conversation.draw_at(temperature)
        self.note(f"temperature {temperature:g}")

    def save(self, name: str) -> None:
        """Write the conversation to a new file. Raises InputError without a name, and as `save_transcript`."""
        from abliterate.chat.transcript import save_transcript

        if not name:
            raise InputError("/save: give the name of a file")
        save_transcript(Path(name).expanduser(), self.conversations)
        self.note(f"saved to {name}")

    def note(self, text: str) -> None:
        """Say something that is no reply."""
        self.aside.print(Text(text, style="dim"))

    def answer(self, prompt: str) -> None:
        """Let every side reply to a prompt, and print the replies as they grow where that can be seen."""
        from abliterate.chat.conversation import take_turn
        from abliterate.chat.panes import panes

        live = self.console.is_terminal and not self.as_json
        with stopping(self.typed) as stopped:
            turn = take_turn(self.conversations, prompt, stopped)
            if live:
                replies = self.drawn(turn)
            else:
                *_, replies = turn
        if self.as_json:
            say_json(self.record(prompt, replies))
            return
        if not (self.typed and live):
            self.console.print(Text(f"> {prompt}"))
        self.console.print(panes(self.sides.sides, replies, self.console))

    def drawn(self, turn: Iterator[tuple[ChatReply, ...]]) -> tuple[ChatReply, ...]:
        """Draw the ends of the replies while they grow, and wipe them; return what they became."""
        from abliterate.chat.panes import panes

        replies = next(turn)
        drawn = 0.0
        with Live(console=self.console, auto_refresh=False, transient=True, vertical_overflow="crop") as screen:
            for replies in turn:
                if time.monotonic() - drawn > 1 / FRAMES:
                    rows = self.console.height - 2
                    screen.update(panes(self.sides.sides, replies, self.console, rows), refresh=True)
                    drawn = time.monotonic()
        return replies

    def record(self, prompt: str, replies: tuple[ChatReply, ...]) -> dict[str, Any]:
        """Return one turn as JSON."""
        chat = self.conversations[0].chat
        by_role = {side.role: reply for side, reply in zip(self.sides.sides, replies, strict=True)}
        return {
            "prompt": prompt,
            "replies": {role: reply.text for role, reply in by_role.items()},
            "refused": {role: reply.refused for role, reply in by_role.items()},
            "ended": {role: reply.ended for role, reply in by_role.items()},
            "system": chat.system,
            "thinking": chat.thinking,
        }


def lines(typed: bool, on_stdout: bool) -> Iterator[str]:
    """Yield the lines that are typed or piped in, until their end or Ctrl-C at the prompt."""
    if not typed:
        sys.stdin.reconfigure(encoding="utf-8", errors="replace")  # type: ignore[union-attr]
        yield from (line.rstrip("\r\n") for line in sys.stdin)
        return
    with contextlib.suppress(ImportError):  # Windows has its own line editing
        import readline  # noqa: F401 - gives input() line editing and history
    while True:
        try:
            if on_stdout:
                line = input("> ")
            else:
                print("> ", end="", file=sys.stderr, flush=True)
                line = input()
        except (EOFError, KeyboardInterrupt):
            print(file=sys.stdout if on_stdout else sys.stderr)
            return
        yield line


@contextmanager
def stopping(typed: bool) -> Iterator[Callable[[], bool]]:
    """Inside the context, the first Ctrl-C is a wish that the reply stops, which is yielded; the second interrupts.

    In a pipe nobody goes on talking: there, the first interrupts.
    """
    wishes: list[int] = []

    def wish(number: int, _: object) -> None:
        if wishes:
            raise KeyboardInterrupt
        wishes.append(number)

    if not typed:
        yield lambda: False
        return
    before = signal.signal(signal.SIGINT, wish)
    try:
        with unechoed():
            yield lambda: bool(wishes)
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def unechoed() -> Iterator[None]:
    """Inside the context, what is typed, ^C too, does not show: it would move what is drawn."""
    try:
        import termios
    except ImportError:  # Windows shows nothing that is not asked for
        yield
        return
    terminal = sys.stdin.fileno()
    before = termios.tcgetattr(terminal)
    quiet = [*before[:3], before[3] & ~termios.ECHO, *before[4:]]
    termios.tcsetattr(terminal, termios.TCSADRAIN, quiet)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)
