"""Failures as one line: short, harmless and without secrets; those that nobody foresaw leave a log behind."""

from __future__ import annotations

import os
import re
import sys
import time
import traceback
from pathlib import Path

from abliterate.chat.text import harmless
from abliterate.errors import first_line, one_short_line
from abliterate.storage.cache import cache_folder
from abliterate.storage.own_files import own_folder

UNFORESEEN = 70
"""The exit code of a fault in abliterate itself: EX_SOFTWARE of sysexits.h."""

SECRET_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY")

SHORTEST_SECRET = 8
"""Shorter values of these variables, such as "none", are words that stand for no key."""

SECRETS = re.compile(r"\bhf_[A-Za-z0-9]{20,}|\bsk-[\w-]{16,}")
"""How keys of the Hub and of OpenAI look, wherever they were read from."""

MASK = "***"


def masked(text: str) -> str:
    """Return `text` without keys: what the environment and a login hold, as it is or quoted, and what looks like one."""
    for value in filter(None, (*map(os.environ.get, SECRET_VARIABLES), kept_token())):
        if len(value.strip()) >= SHORTEST_SECRET:
            for form in (value, repr(value)[1:-1], ascii(value)[1:-1], value.strip()):
                text = text.replace(form, MASK)
    return SECRETS.sub(MASK, text)


def kept_token() -> str | None:
    """Return the Hub's token of a login on this machine, None without one, or where nothing has asked the Hub."""
    hub = sys.modules.get("huggingface_hub")
    path = getattr(getattr(hub, "constants", None), "HF_TOKEN_PATH", None)
    try:
        return Path(path).read_text(encoding="utf-8").strip() if path else None
    except (OSError, UnicodeDecodeError):
        return None


def one_line(text: str) -> str:
    """Return `text` as one line without secrets, of at most LINE_BYTES; what is too long loses its middle."""
    line = harmless(masked(" ".join(text.split())))  # marks of controls take more bytes than these
    return one_short_line(line)


def unforeseen(error: Exception) -> str:
    """Log an exception that is a fault of abliterate, and return the line that says so and where the log is."""
    what = f"{type(error).__name__}: {first_line(error)}"
    try:
        log = write_log(error)
    except OSError as unwritable:
        why = unwritable.strerror or type(unwritable).__name__
        return f"a fault in abliterate: {what}; its log cannot be written ({why}): set ABLITERATE_CACHE to a folder"
    return f"a fault in abliterate: {one_line(what)[:300]}; please report it with {log}"


def write_log(error: Exception) -> Path:
    """Write where an exception came from, without the values of variables, and return the file: the user's alone."""
    folder = own_folder(cache_folder() / "failures", 0o700)
    path = folder / f"{time.strftime('%Y%m%dT%H%M%S')}-{time.time_ns() % 10**9:09}-{os.getpid()}.log"
    text = masked("".join(traceback.format_exception(error)))
    # A new file of its own: never through a link that someone has put there.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8", errors="replace") as file:
        file.write(text)
    return path
