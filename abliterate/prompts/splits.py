"""Which prompts serve for what: training, selecting, reporting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import PromptSet

SELECT_HARMFUL = 64
SELECT_HARMLESS = 256
REPORT_PROMPTS = 100


@dataclass(frozen=True)
class PromptSplits:
    """The prompts of both sides, how they are put to the model, and which of them serve for what."""

    chat: ChatFormat
    harmful: PromptSet
    harmless: PromptSet
    n_train: int

    def training(self) -> tuple[PromptSet, PromptSet]:
        """Return the harmful and harmless prompts that make the direction."""
        return self._parts("train", self.n_train, self.n_train)

    def selecting(self) -> tuple[PromptSet, PromptSet]:
        """Return those that choose among candidates."""
        return self._parts("select", SELECT_HARMFUL, SELECT_HARMLESS)

    def reporting(self) -> tuple[PromptSet, PromptSet]:
        """Return those that measure, and take part in nothing else."""
        return self._parts("report", REPORT_PROMPTS, REPORT_PROMPTS)

    def parts(self) -> tuple[PromptSet, ...]:
        """Return all of them, part by part."""
        return (*self.training(), *self.selecting(), *self.reporting())

    def report(self) -> Report:
        """Return the report prompts with their token ids."""
        harmful, harmless = (part.prompts for part in self.reporting())
        return Report(Asked(harmful, self.chat.encode(harmful)), Asked(harmless, self.chat.encode(harmless)))

    def record(self) -> dict[str, Any]:
        """Return what the manifest says of the prompts."""
        parts = {"train": self.training(), "select": self.selecting(), "report": self.reporting()}
        return {
            side: {
                "spec": whole.name,
                "digest": whole.digest,
                **{name: len(part[place]) for name, part in parts.items()},
            }
            for place, (side, whole) in enumerate((("harmful", self.harmful), ("harmless", self.harmless)))
        }

    def _parts(self, name: str, harmful: int, harmless: int) -> tuple[PromptSet, PromptSet]:
        return self.harmful.side(name).first(harmful), self.harmless.side(name).first(harmless)


@dataclass(frozen=True)
class Asked:
    """Prompts of one kind: their texts, and the token ids that the model sees."""

    prompts: tuple[str, ...]
    tokens: Sequence[Sequence[int]]


@dataclass(frozen=True)
class Report:
    """The prompts that measure, side by side; `look_alikes` are harmless ones that sound harmful, where there are any."""

    harmful: Asked
    harmless: Asked
    look_alikes: Asked = Asked((), ())
