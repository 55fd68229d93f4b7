"""Rows to prompts: which column holds them, what is a conversation, and what is no prompt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from abliterate.errors import InputError, shortened
from abliterate.prompts.prompt import Prompt

PROMPT_COLUMNS = (
    "prompt",
    "instruction",
    "messages",
    "conversations",
    "conversation",
    "text",
    "question",
    "goal",
    "behavior",
    "query",
    "request",
    "content",
    "input",
)
"""Names under which published instruction lists keep their prompts, most usual first; case is ignored."""

COLUMNS_OF_PROMPTS = frozenset(PROMPT_COLUMNS)

SYSTEM_COLUMNS = ("system", "system_prompt")
"""Names of a column beside the prompts that holds a system message for each."""

CATEGORY_COLUMNS = ("category", "semantic_category", "semanticcategory", "harm_category", "topic")
"""Names of a column beside the prompts by which figures are taken apart."""

BESIDE = (SYSTEM_COLUMNS, CATEGORY_COLUMNS)

USERS = ("user", "human", "prompter")
SYSTEMS = ("system", "developer")
"""Roles, as the Hub's lists (`role`, `content`) and ShareGPT's (`from`, `value`) write them."""


def rows_to_prompts(source: str, rows: Sequence[Any], column: str | None) -> list[Prompt]:
    """Return the prompts of rows that are strings, conversations, or objects with a prompt column.

    Raises InputError, naming `source` and the row, for anything else.
    """
    plain = [isinstance(row, str | list) for row in rows]
    if all(plain):
        if column is not None:
            raise InputError(
                f"{source}: holds plain strings, so it has no column {shortened(column)}; leave the column away"
            )
        return [prompt_of(source, number, row) for number, row in enumerate(rows, 1)]
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise InputError(
                f"{source}: row {number} is a {type(row).__name__}; expected all strings, all conversations or all objects"
            )
    names = list(dict.fromkeys(name for row in rows for name in row))
    chosen = choose_column(source, names, column)
    system = beside(names, SYSTEM_COLUMNS, chosen)
    category = beside(names, CATEGORY_COLUMNS, chosen)
    return [
        prompt_of(
            source,
            number,
            row.get(chosen),
            system_text(source, number, row.get(system)) if system else None,
            category_text(source, number, row.get(category)) if category else None,
        )
        for number, row in enumerate(rows, 1)
    ]


def choose_column(source: str, names: Iterable[str], column: str | None) -> str:
    """Return the column that holds the prompts: the one asked for, the only one, or a usual name."""
    known = list(names)
    listed = shortened(", ".join(map(str, known)), 500, quoted=False) or "none"
    if column is not None:
        if column in known:
            return column
        raise InputError(f"{source}: no column {shortened(column)}; it has {listed}")
    if len(known) == 1:
        return known[0]
    for usual in PROMPT_COLUMNS:
        for name in known:
            if name.lower() == usual:
                return name
    raise InputError(f"{source}: which column holds the prompts? Name one of {listed} after a colon")


def beside(names: Iterable[str], usual: Sequence[str], chosen: str) -> str | None:
    """Return the column with one of the usual names, where there is one beside the prompts."""
    found = {name.lower(): name for name in names if name != chosen}
    return next((found[name] for name in usual if name in found), None)


def prompt_of(
    source: str, number: int, value: object, system: str | None = None, category: str | None = None
) -> Prompt:
    """Return the prompt of a cell: its text, or the first user turn of its conversation with the system turns before it.

    Raises InputError with the row for anything else.
    """
    if isinstance(value, str):
        return Prompt(written(source, number, value), system, category)
    turns = turns_of(value)
    if turns is None:
        raise InputError(
            f"{source}: row {number} holds {shortened(repr(value), quoted=False)} where a prompt is expected; "
            "it must be a string or a conversation"
        )
    place = next((place for place, (role, _) in enumerate(turns) if role in USERS), None)
    if place is None:
        raise InputError(f"{source}: row {number} is a conversation in which no user says anything; remove it")
    systems = [text for role, text in turns[:place] if role in SYSTEMS and text.strip()]
    own = "\n\n".join(systems) if systems else system
    return Prompt(
        written(source, number, turns[place][1]), None if own is None else written(source, number, own), category
    )


def turns_of(value: object) -> list[tuple[str, str]] | None:
    """Return role and text of each turn of a conversation, None for what is none."""
    if not isinstance(value, list | tuple) or not value:
        return None
    turns = []
    for turn in value:
        if not isinstance(turn, Mapping):
            return None
        role, content = (turn.get(name, turn.get(other)) for name, other in (("role", "from"), ("content", "value")))
        text = content_text(content)
        if not isinstance(role, str) or text is None:
            return None
        turns.append((role.lower(), text))
    return turns


def content_text(content: object) -> str | None:
    """Return the text of a turn: a string, nothing (of a turn that calls a tool), or parts of which all are texts."""
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        return None
    texts = [part.get("text") if isinstance(part, Mapping) else None for part in content]
    return "".join(map(str, texts)) if all(isinstance(text, str) for text in texts) else None


def system_text(source: str, number: int, value: object) -> str | None:
    """Return the system message of a row, None where it has none."""
    if value is None or (isinstance(value, str) and not value.strip()):
        return None
    if isinstance(value, str):
        return written(source, number, value)
    raise InputError(
        f"{source}: row {number} has a system message {shortened(repr(value), quoted=False)}; it must be a string"
    )


def category_text(source: str, number: int, value: object) -> str | None:
    """Return the category of a row, None where it has none; several are one by their names."""
    values = value if isinstance(value, list | tuple) else [value]
    named = [str(one).strip() for one in values if one is not None]
    return written(source, number, shortened(", ".join(filter(None, named)), 80, quoted=False)) or None


def written(source: str, number: int, text: str) -> str:
    """Return a text that can be written as UTF-8. Raises InputError for half of a surrogate pair, with the row."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{source}: row {number} holds half of a surrogate pair ({text[error.start]!a}), which is no character; "
            "mend or remove it"
        ) from error
    return text
