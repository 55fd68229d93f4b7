"""Which prompts serve for what: training, selecting, reporting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.errors import InputError, shortened
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import PromptSet

SELECT_HARMFUL = 64
SELECT_HARMLESS = 256
REPORT_PROMPTS = 100

HARMFUL, HARMLESS, LOOK_ALIKES, KEPT = "harmful", "harmless", "look-alikes", "keep"
"""What the lists of a run are called in its record."""


@dataclass(frozen=True)
class LookAlikes:
    """Harmless prompts that sound harmful: those that make and choose an edit, and those that measure it.

    Without `measured`, the report part of the others measures.
    """

    made_of: PromptSet
    measured: PromptSet | None = None

    def part(self, name: str) -> PromptSet:
        """Return those of a part. Of a list that need not measure, all that do not train select."""
        if self.measured is None:
            return self.made_of.side(name)
        if name == "report":
            return self.measured
        train = self.made_of.side("train")
        if name == "train":
            return train
        return PromptSet(self.made_of.spec, tuple(one for one in self.made_of.prompts if one not in train.prompts))

    def check(self, harmful: PromptSet) -> None:
        """Raise InputError where a prompt is a look-alike and harmful, or measures what it has made."""
        for others, why in ((harmful, "--harmful"), (self.measured, "--report-look-alikes")):
            shared = set(self.made_of.prompts) & set(others.prompts if others else ())
            if shared:
                raise InputError(
                    f"{len(shared)} prompts are in --look-alikes and in {why} (for one: {shortened(min(shared))}); remove "
                    "them from one of the two"
                )


@dataclass(frozen=True)
class PromptSplits:
    """The prompts of both sides, how they are put to the model, and which of them serve for what.

    Where there are look-alikes, their refusals are what the edit removes, and those of the harmful prompts stay; those of
    `keep` always do.
    """

    chat: ChatFormat
    harmful: PromptSet
    harmless: PromptSet
    n_train: int
    look_alikes: LookAlikes | None = None
    keep: PromptSet | None = None

    @property
    def removed(self) -> str:
        """Return what the prompts are called whose refusals the edit removes."""
        return LOOK_ALIKES if self.look_alikes else HARMFUL

    def training(self) -> tuple[PromptSet, PromptSet]:
        """Return the prompts that make the direction: those whose refusals shall go, and harmless ones."""
        return self._part(self.removed, "train"), self._part(HARMLESS, "train")

    def selecting(self) -> tuple[PromptSet, PromptSet]:
        """Return those that choose among candidates."""
        return self._part(self.removed, "select"), self._part(HARMLESS, "select")

    def reporting(self) -> tuple[PromptSet, PromptSet]:
        """Return the harmful and harmless ones that measure, and take part in nothing else."""
        return self._part(HARMFUL, "report"), self._part(HARMLESS, "report")

    def kept(self, part: str) -> dict[str, PromptSet]:
        """Return the lists of a part whose refusals shall stay, by name."""
        names = [*([HARMFUL] if self.look_alikes else []), *([KEPT] if self.keep else [])]
        return {name: self._part(name, part) for name in names}

    def parts(self) -> tuple[PromptSet, ...]:
        """Return all of them, part by part."""
        others = [self._part(name, "report") for name in self._lists() if name in (LOOK_ALIKES, KEPT)]
        kept = [one for part in ("train", "select") for one in self.kept(part).values()]
        return (*self.training(), *self.selecting(), *self.reporting(), *kept, *others)

    def report(self) -> Report:
        """Return the report prompts with their token ids."""
        return Report(*(self._asked(name) for name in (HARMFUL, HARMLESS, LOOK_ALIKES, KEPT)))

    def record(self) -> dict[str, Any]:
        """Return what the manifest says of the prompts."""
        found = {}
        for side, whole in self._lists().items():
            counts = {part: len(self._part(side, part)) for part in ("train", "select", "report")}
            found[side] = {"spec": whole.name, "digest": whole.digest, **counts}
        if self.look_alikes and (measured := self.look_alikes.measured):
            found[LOOK_ALIKES]["report"] = 0
            own = {"spec": measured.name, "digest": measured.digest, "train": 0, "select": 0, "report": len(measured)}
            found[f"{LOOK_ALIKES}, report"] = own
        return found

    def _lists(self) -> dict[str, PromptSet]:
        alike = self.look_alikes.made_of if self.look_alikes else None
        named = {HARMFUL: self.harmful, HARMLESS: self.harmless, LOOK_ALIKES: alike, KEPT: self.keep}
        return {name: one for name, one in named.items() if one is not None}

    def _part(self, name: str, part: str) -> PromptSet:
        if name == LOOK_ALIKES:
            assert self.look_alikes
            return self.look_alikes.part(part)
        select = SELECT_HARMLESS if name == HARMLESS else SELECT_HARMFUL
        count = {"train": self.n_train, "select": select, "report": REPORT_PROMPTS}[part]
        return self._lists()[name].side(part).first(count)

    def _asked(self, name: str) -> Asked:
        if name not in self._lists():
            return Asked((), ())
        prompts = self._part(name, "report").prompts
        return Asked(prompts, self.chat.encode(prompts))


@dataclass(frozen=True)
class Asked:
    """Prompts of one kind: their texts, and the token ids that the model sees."""

    prompts: tuple[str, ...]
    tokens: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Report:
    """The prompts that measure, side by side; `look_alikes` are harmless ones that sound harmful, where there are any.

    `kept` are those whose refusals shall stay, where some were named.
    """

    harmful: Asked
    harmless: Asked
    look_alikes: Asked = Asked((), ())
    kept: Asked = Asked((), ())
