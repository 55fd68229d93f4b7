"""Everything that abliterate raises on purpose.

    AbliterateError            one line that says what to do; exit code 2 on the command line
    ├── InputError             what the user asked for: prompts, options, a model that does not exist
    │   └── NoRefusalsError    the model does not refuse, so there is no direction to find
    ├── CheckpointError        files on disk: truncated, inconsistent, of a kind that is not read
    ├── ArchitectureError      the writers of a model cannot be found or proved
    ├── HubError               the Hugging Face Hub said no, or cannot be reached
    └── ProofError             the written checkpoint is not what was planned; exit code 1

Messages name the thing (tensor, file and line, option), what was expected, what was found, and end
with the way out. They are written with the options as flags, and said with them as keywords where no command line
listens (`in_python`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

FLAGS_SPOKEN = threading.Event()
"""Whether messages name options as the command line takes them, `--layer 3`; otherwise as Python does, `layer=3`."""

SWITCHES = (
    *("adapter", "allow-unproved", "create-pr", "csv", "force", "json", "keep-norm", "keep-paths", "markdown"),
    *("offline", "open", "optimize", "orthogonal", "public", "quick", "quiet", "trust-remote-code"),
)
"""The flags that take no value; a test holds them to those of the command."""

WORDS = (
    *(
        "adapter",
        "all",
        "bf16",
        "bfloat16",
        "calm",
        "control-vector",
        "data",
        "dpo",
        "embed",
        "float32",
        "gguf-adapter",
    ),
    *("greedy", "harden", "induce", "knee", "mean-difference", "model", "off", "refused", "served"),
)
"""Values that messages give beside a flag, where prose could follow it too."""

FLAG = re.compile(
    r"(?<![\w/.-])--(?P<name>[a-z][a-z0-9-]*[a-z0-9])"
    rf"(?: (?P<value>-?\d[\w.,]*\w|-?\d|(?P<open>[A-Z]+)\b|(?:{'|'.join(WORDS)})\b(?!-)|[^\s:;,]+(?=: )))?"
)
"""A flag in a message and its value, if one stands there: a number, a known word, FILE and the like, or what ends in a colon."""

NUMBER = r"-?\d+(\.\d+)?(e-?\d+)?"

SHELL = re.compile(r"(?:abliterate|hf|pip|python|torchrun) [^;`]*")
"""A command in a message, which is one for a terminal in either spelling."""

LINE_BYTES = 2000
"""The most that the line of an error takes in UTF-8."""

ELLIPSIS = " ... "

WORD = 300
"""Characters in which a message has a space, unless it holds something of foreign making."""


class AbliterateError(Exception):
    """Base of every error that abliterate raises on purpose.

    Examples:
        >>> try:
        ...     load_prompts("nowhere.txt")
        ... except AbliterateError as error:
        ...     print(error, "exit code", error.exit_code)
        nowhere.txt: no such prompt file; check the path exit code 2
    """

    exit_code = 2

    def __str__(self) -> str:
        said = super().__str__()
        return one_short_line(said if FLAGS_SPOKEN.is_set() else in_python(said))


class InputError(AbliterateError, ValueError):
    """What was asked for cannot be done as asked: a ValueError, as of any library."""


class NoRefusalsError(InputError):
    """The model does not refuse the harmful prompts, so there is no refusal direction to find."""


class CheckpointError(AbliterateError):
    """A checkpoint on disk is damaged, inconsistent or of a kind that is not read."""


class ArchitectureError(AbliterateError):
    """The tensors that write to the residual stream cannot be found or proved."""


class HubError(AbliterateError):
    """The Hugging Face Hub refused a request or cannot be reached."""


class ProofError(AbliterateError):
    """A written checkpoint differs from its plan, or still writes along the direction."""

    exit_code = 1


@contextmanager
def flags_spoken() -> Iterator[None]:
    """Let messages name options as the command line does, for the time of the context."""
    before = FLAGS_SPOKEN.is_set()
    FLAGS_SPOKEN.set()
    try:
        yield
    finally:
        if not before:
            FLAGS_SPOKEN.clear()


def in_python(message: str) -> str:
    """Return a message with its flags as Python's keywords; commands for a terminal stay.

    Examples:
        >>> in_python("--layer 9 is out of range; pass --dtype float32, --force or another --out")
        "layer=9 is out of range; pass dtype='float32', force=True or another out=..."
        >>> in_python("retry with: abliterate push edited me/edited --public")
        'retry with: abliterate push edited me/edited --public'
    """
    commands = [found.span() for found in SHELL.finditer(message)]

    def keyword(found: re.Match[str]) -> str:
        if any(start <= found.start() < end for start, end in commands):
            return found[0]
        name, value = found["name"].replace("-", "_"), found["value"]
        if value is not None:
            return f"{name}={value if found['open'] or re.fullmatch(NUMBER, value) else repr(value)}"
        if name.startswith("no_") and found["name"].removeprefix("no-") in SWITCHES:
            return f"{name.removeprefix('no_')}=False"
        return f"{name}={True if found['name'] in SWITCHES else '...'}"

    return FLAG.sub(keyword, message)


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message, without the quotes of a KeyError; its class where it says nothing."""
    said = str(error.args[0] if isinstance(error, KeyError) and error.args else error).strip()
    return said.splitlines()[0] if said else type(error).__name__


def shortened(text: str, limit: int = 200, quoted: bool = True) -> str:
    """Return a text of foreign making on one line, of a length that fits in a message.

    Examples:
        >>> shortened("two\\nlines")
        "'two lines'"
    """
    line = " ".join(text.split())
    line = line if len(line) <= limit else f"{line[:limit]} ..."
    return repr(line) if quoted else line.encode(errors="replace").decode()


def one_short_line(text: str) -> str:
    """Return a text without line ends, of at most LINE_BYTES in UTF-8; what is too long loses its middle.

    Names out of files stand in messages, and a file can bring a name of megabytes.

    Examples:
        >>> one_short_line("two\\nlines")
        'two lines'
    """
    line = " ".join(text.splitlines()) if len(text.splitlines()) > 1 else text
    if len(line) * 4 <= LINE_BYTES:
        return line
    coded = line.encode(errors="replace")
    if len(coded) <= LINE_BYTES:
        return line
    half = (LINE_BYTES - len(ELLIPSIS)) // 2
    head, tail = coded[:half].decode(errors="ignore"), coded[-half:].decode(errors="ignore")
    # Between words where there are some: half of a key would not be known as one any more, and stay unmasked.
    spaces = head.rfind(" ", len(head) - WORD), tail.find(" ", 0, WORD)
    return (head[: spaces[0]] if spaces[0] > 0 else head) + ELLIPSIS + tail[spaces[1] + 1 :]
