"""Prompts that a caller of the library gives: strings, conversations, or what a data library holds them in."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.errors import InputError, shortened
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.prompt_set import PromptSet
from abliterate.prompts.rows import SYSTEMS, USERS, prompt_of, turns_of, written
from abliterate.prompts.stored_datasets import table_to_prompts

TAKEN = "a list of strings or of conversations ([{'role': 'user', 'content': ...}]), a Dataset, a Series or a PromptSet"

ROLES = dict.fromkeys(USERS, "user") | dict.fromkeys(SYSTEMS, "system") | {"assistant": "assistant", "gpt": "assistant"}


def given_prompts(prompts: object) -> tuple[Prompt, ...]:
    """Return what a caller means by some prompts.

    A conversation is put whole, up to the reply to its last turn, which is the user's. Of a `datasets.Dataset` the column
    is chosen as `load_prompts` does, and of its conversations the first user turn. Raises InputError for anything else.
    """
    if isinstance(prompts, PromptSet):
        return tuple(map(Prompt, prompts.prompts))
    if isinstance(prompts, of("datasets", "Dataset")):
        return tuple(table_to_prompts("the Dataset", prompts, None))
    if isinstance(prompts, of("pandas", "Series")):
        prompts = prompts.tolist()  # type: ignore[attr-defined]
    if isinstance(prompts, str | bytes) or not isinstance(prompts, Sequence):
        raise InputError(f"prompts cannot be {described(prompts)}; pass {TAKEN}")
    if len(prompts) and isinstance(prompts[0], Mapping):
        hint = "one conversation: put it into a list" if turns_of(list(prompts)) else "rows: pass the column of prompts"
        raise InputError(f"prompts cannot be a list of dicts, which is {hint}; pass {TAKEN}")
    if not len(prompts):
        raise InputError(f"there are no prompts; pass {TAKEN}")
    return tuple(given_prompt(number, one) for number, one in enumerate(prompts, 1))


def given_prompt(number: int, one: Any) -> Prompt:
    """Return one string or conversation as a prompt. Raises InputError, with its row, for anything else."""
    if isinstance(one, Prompt):
        return one
    turns = None if isinstance(one, str) else turns_of(one)
    if turns is None:
        return prompt_of("prompts", number, one)
    known = [(ROLES.get(role), written("prompts", number, text)) for role, text in turns]
    systems = [text for role, text in known if role == "system"]
    leading = next((place for place, (role, _) in enumerate(known) if role != "system"), len(known))
    if None in {role for role, _ in known} or len(systems) > leading:
        raise InputError(
            f"prompts: row {number} has a turn of another role than system (first), user and assistant; leave it out"
        )
    if known[-1][0] != "user":
        raise InputError(
            f"prompts: row {number} ends with a turn of the {known[-1][0]}; end it with the user's, to which the model replies"
        )
    earlier = [(str(role), text) for role, text in known[leading:-1]]
    return Prompt(known[-1][1], "\n\n".join(systems) if systems else None, None, earlier)


def of(library: str, name: str) -> type | tuple[()]:
    """Return a class of a library that somebody has imported; nothing is an instance of what nobody has."""
    found = getattr(sys.modules.get(library), name, None)
    return found if isinstance(found, type) else ()


def described(prompts: object) -> str:
    """Return in words what was given, and what of it to pass where that is known."""
    if isinstance(prompts, str):
        return f"one string, {shortened(prompts, 60)}: put it into a list, or call load_prompts on a SPEC"
    if isinstance(prompts, of("pandas", "DataFrame")):
        return "a DataFrame: pass its column of prompts, frame['prompt']"
    if isinstance(prompts, of("datasets", "DatasetDict")):
        return "a DatasetDict: pass one of its splits"
    return f"a {type(prompts).__name__}"
