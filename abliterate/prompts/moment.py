"""The day that a chat template writes into every prompt: Llama 3.1 and 3.2, Granite and gpt-oss write today's.

A run fixes the day once, records it as `--date`, and whoever repeats it or measures after it sets the same day again.
"""

from __future__ import annotations

from datetime import date, datetime, timezone

from abliterate.errors import InputError

CLOCK = "strftime_now"
"""The function by which templates ask for the time; transformers gives it the present one."""

DIRECTIVES = ("-d", "-m", "-H", "-I", "-M", *"aAbBcdfHIjmMpSUwWxXyYzZuVGDFRTeh", "%")
"""What a format may hold behind a percent sign; those with a hyphen are glibc's, without a leading zero."""


def moment_of(source: str, given: str | None = None) -> str | None:
    """Return the day that a template writes, YYYY-MM-DD: the one given, else today's; None where it writes none."""
    if CLOCK not in source:
        return None
    return given or date.today().isoformat()


def dated(source: str, moment: str | None) -> str:
    """Return a template whose clock stands at noon of a day, UTC; as it is where no day is set or it has no clock.

    transformers hands no function to a template, hence a macro of the clock's name, which puts in what each directive of
    `strftime` stands for. The line end behind it is the one that `trim_blocks` takes.
    """
    if moment is None or CLOCK not in source:
        return source
    noon = datetime.fromisoformat(f"{read_date(moment)}T12:00:00").replace(tzinfo=timezone.utc)
    pieces = "".join(f"|replace({f'%{one}'!r}, {noon.strftime(f'%{one}')!r})" for one in DIRECTIVES)
    return f"{{%- macro {CLOCK}(form) %}}{{{{ form{pieces} }}}}{{%- endmacro %}}\n{source}"


def read_date(text: str) -> str:
    """Return a day as YYYY-MM-DD. Raises InputError for what is none."""
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise InputError(f"--date {text}: is no day; write it as YYYY-MM-DD") from None
