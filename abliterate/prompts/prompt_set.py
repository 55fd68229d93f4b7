"""Prompts: read from the Hub, a local file or the package; split so that no prompt ever changes sides.

A SPEC names a set of prompts: `org/dataset[:split[:column]]` on the Hub, a `.txt`, `.json`, `.jsonl`, `.csv`, `.tsv` or
`.parquet` file, optionally `FILE:column`, a folder of `datasets`' `save_to_disk`, optionally `FOLDER:split:column`, or
`builtin:` and the name of a list that the package ships (`sources.BUILTIN`). A split may be a slice: `train[:400]`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from abliterate.errors import InputError, shortened
from abliterate.prompts.prompt import Prompt, categories_of, key_of
from abliterate.prompts.sources import public_spec, read_spec

MINIMUM = 8
"""Fewer prompts a side than this do not make a mean (docs/method.md, "Bad input")."""

SPLIT_NAMES = (("train", 0.55), ("select", 0.20), ("report", 0.25))
"""Shares of the stable split: find the direction, choose among candidates, measure the result."""


@dataclass(frozen=True)
class PromptSet:
    """Instructions in order, without duplicates, and the SPEC that they came from.

    Examples:
        >>> one = load_prompts("builtin:harmful")
        >>> sum(len(one.side(name)) for name in ("train", "select", "report")) == len(one)
        True
    """

    spec: str
    prompts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.prompts)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the prompts, in order, with their system messages: the identity that files and caches
        record. Categories are no part of it.
        """
        return hashlib.sha256("\0".join(map(key_of, self.prompts)).encode()).hexdigest()

    @property
    def categories(self) -> tuple[str, ...]:
        """Return the categories of the prompts, in the order of their first; empty where the list names none."""
        return categories_of(self.prompts)

    def first(self, count: int) -> PromptSet:
        """Return the first `count` prompts (all of them where there are fewer)."""
        return PromptSet(self.spec, self.prompts[:count])

    @property
    def name(self) -> str:
        """Return the SPEC without the folders of this machine."""
        return public_spec(self.spec)

    def side(self, name: str) -> PromptSet:
        """Return the `train`, `select` or `report` part, by a hash of each text: a prompt is on the same side in
        every set that holds it. Raises InputError when the part is empty.
        """
        prompts = tuple(prompt for prompt in self.prompts if side_of(prompt) == name)
        if not prompts:
            raise InputError(
                f"{self.spec}: none of its {len(self)} prompts falls on the {name} side of the split; "
                "give more prompts (about 100 a side work well)"
            )
        return PromptSet(self.spec, prompts)


def side_of(prompt: str) -> str:
    """Return `train`, `select` or `report`: a function of the text alone."""
    place = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:8], "big") / 2**64
    for name, share in SPLIT_NAMES:
        if place < share:
            return name
        place -= share
    return SPLIT_NAMES[-1][0]


def load_prompts(spec: str | Path, *, offline: bool = False) -> PromptSet:
    """Read the prompts that `spec` names (see the module's text), stripped, without duplicates.

    Raises InputError for an unknown file, column, split or dataset, a file that cannot be parsed (with the
    line), and fewer than 8 prompts.

    Examples:
        >>> load_prompts(f"{tiny}/harmful.txt").name
        'harmful.txt'
    """
    if not isinstance(spec, str | Path):
        raise InputError(
            f"a SPEC of prompts is a string, not a {type(spec).__name__}; pass lists to capture as they are"
        )
    spec = str(spec)
    texts = [Prompt(text).trimmed() for text in read_spec(spec, offline=offline)]
    unique: dict[str, Prompt] = {}
    for text in filter(None, texts):
        unique.setdefault(text.key, text)
    prompts = tuple(unique.values())
    if len(prompts) < MINIMUM:
        raise InputError(
            f"{shortened(spec, 500, quoted=False)}: holds {len(prompts)} prompts; give at least {MINIMUM} (about 100 work well)"
        )
    return PromptSet(spec, prompts)


def check_pair(harmful: PromptSet, harmless: PromptSet) -> None:
    """Raise InputError when a prompt is on both sides: the difference in means would cancel it."""
    shared = set(harmful.prompts) & set(harmless.prompts)
    if shared:
        example = min(shared)
        raise InputError(
            f"{len(shared)} prompts are both harmful and harmless (for one: {shortened(example)}); "
            "remove them from --harmful or --harmless"
        )
