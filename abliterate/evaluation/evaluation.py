"""One model measured, and held against another: everything that `evaluation.json` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from abliterate.evaluation.figure_names import LOSS_ON_TEXT, UNITS
from abliterate.evaluation.figures import Figure, JudgedReplies, length_figure, paired_figure, refusals_changed
from abliterate.evaluation.statistics import Rate
from abliterate.evaluation.tasks import TaskMean

FORMAT = 1
"""Of `evaluation.json`."""

Capability = Mapping[str, Mapping[str, TaskMean]]
"""Task -> metric -> its mean."""


@dataclass(frozen=True)
class Examined:
    """What one model said to each set of prompts, how it predicts a text, and how it does on tasks."""

    name: str
    sets: Mapping[str, JudgedReplies]
    text: tuple[float, ...] = ()
    tasks: Capability = field(default_factory=dict)

    def refusals(self, kind: str) -> Rate:
        """Return how many prompts of a kind are refused."""
        return self.sets[kind].rate("refused")


@dataclass(frozen=True)
class Evaluation:
    """A model, what it is held against, and what lies between the two; `settings` say how it was measured.

    `late` holds, for each kind of prompts, how many replies of `model` and `against` turn to safety only after
    `figure_names.LATE` tokens; it is empty where replies are no longer than that.
    """

    settings: Mapping[str, Any]
    model: Examined
    against: Examined | None = None
    damage: tuple[Figure, ...] = ()
    lengths: tuple[Mapping[str, object], ...] = ()
    notes: tuple[str, ...] = ()
    late: Mapping[str, Mapping[str, Rate | None]] = field(default_factory=dict)

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Return every figure that is no rate: the damage, the text's cross-entropy, the lengths of the replies."""
        other = self.against
        text = [paired_figure(LOSS_ON_TEXT, UNITS[LOSS_ON_TEXT], self.model.text, other.text if other else None)]
        lengths = [
            length_figure(kind, one, other.sets[kind] if other else None) for kind, one in self.model.sets.items()
        ]
        return (*self.damage, *(text if self.model.text else ()), *lengths)

    def figure(self, name: str) -> Figure | None:
        """Return one figure by its name, None where it was not measured."""
        return next((one for one in self.figures if one.name == name), None)

    def to_json(self) -> dict[str, Any]:
        """Return all of it, replies included."""
        model, against = self.model, self.against
        return {
            "format": FORMAT,
            "model": model.name,
            "against": against.name if against else None,
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "sets": {
                kind: {
                    "model": judged.rates_json(),
                    "against": against.sets[kind].rates_json() if against else None,
                    "paired": refusals_changed(judged, against.sets[kind]).to_json() if against else None,
                    **self.categories_json(kind),
                }
                for kind, judged in model.sets.items()
            },
            "figures": {one.name: one.to_json() for one in self.figures},
            "by_length": list(self.lengths),
            "late_refusals": {
                kind: {name: one.to_json() if one else None for name, one in both.items()}
                for kind, both in self.late.items()
            },
            "tasks": self.tasks_json(),
            "replies": {
                "model": {kind: judged.replies_json() for kind, judged in model.sets.items()},
                "against": {kind: judged.replies_json() for kind, judged in against.sets.items()} if against else None,
            },
        }

    def categories(self, kind: str) -> dict[str, tuple[Rate | None, Rate]]:
        """Return the refusals in each category of a kind of prompts: of what the model is held against, and of the model."""
        other = self.against.sets[kind].by_category() if self.against else {}
        return {name: (other.get(name), rate) for name, rate in self.model.sets[kind].by_category().items()}

    def categories_json(self, kind: str) -> dict[str, Any]:
        """Return the record of the categories; empty where the list names none."""
        rates = {
            name: {"model": model.to_json(), "against": against.to_json() if against else None}
            for name, (against, model) in self.categories(kind).items()
        }
        return {"by_category": rates} if rates else {}

    def tasks_json(self) -> dict[str, Any] | None:
        """Return each task's metrics for both models, None where no task was asked for."""
        if not self.model.tasks:
            return None
        other: Capability = self.against.tasks if self.against else {}
        return {
            task: {
                metric: {"model": value.to_json(), "against": other[task][metric].to_json() if other else None}
                for metric, value in metrics.items()
            }
            for task, metrics in self.model.tasks.items()
        }
