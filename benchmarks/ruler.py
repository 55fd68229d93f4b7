"""One ruler for edits of one model: every edit is written into the weights, measured, and taken out again.

Not run itself: `ranks.py` and `forms.py` beside it use it. The prompts are the package's own lists: the report split, which
takes no part in finding an edit, and look-alikes (harmless requests that sound harmful).

    refused      harmful prompts whose reply of 32 tokens is a refusal
    look-alikes  the same of look-alikes
    KL first     KL(original || edited) behind the whole prompt, harmless prompts, mean, in nats
    KL replies   the same over the tokens of the original's own replies
"""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from transformers import PreTrainedModel

from abliterate import load_prompts
from abliterate.activations.capture import Activations
from abliterate.directions.candidates import Selection
from abliterate.directions.directions import Directions
from abliterate.evaluation.divergence import diverge
from abliterate.evaluation.observation import Observation, observe
from abliterate.models.head import Head
from abliterate.pipeline.find import capture_training, choose_place, find_directions
from abliterate.pipeline.load import Loaded, load_run
from abliterate.pipeline.options import Options
from abliterate.pipeline.replies import TrainingReplies, collect_training_replies
from abliterate.progress import SILENT
from abliterate.prompts.splits import Asked, Report
from abliterate.search import closing, pressure, stages


@dataclass(frozen=True)
class Figures:
    """One edit by the ruler; `name` says which."""

    name: str
    refused: int
    harmful: int
    look_alikes_refused: int
    look_alikes: int
    kl_first: float
    kl_replies: float


@dataclass(frozen=True)
class Prepared:
    """A model with all that a run finds before it edits: the sides of the training prompts, the directions, the place."""

    loaded: Loaded
    replies: TrainingReplies
    directions: Directions
    selection: Selection
    refused: Activations
    answered: Activations

    @classmethod
    def of(cls, options: Options) -> Prepared:
        """Do what a run does before it edits."""
        loaded = load_run(options, SILENT)
        harmful, harmless = capture_training(loaded, SILENT)
        said = collect_training_replies(loaded, SILENT)
        directions = find_directions(loaded, said, harmful, harmless)
        selection = choose_place(loaded, said, directions, SILENT)
        return cls(loaded, said, directions, selection, harmful.rows(said.harmful), harmless.rows(said.harmless))

    @property
    def first(self) -> torch.Tensor:
        """Return the direction of the automatic choice."""
        return self.directions.at(self.selection.chosen.layer, self.selection.chosen.position)

    def states(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the states of both sides at the place of the automatic choice, `[prompts, d_model]`, in float32."""
        layer, position = self.selection.chosen.layer, [self.selection.chosen.position]
        one, other = (side.at(position).resid[:, 0, layer].float() for side in (self.refused, self.answered))
        return one, other


class Ruler:
    """The original's replies and predictions on the report prompts, and the weights to go back to."""

    def __init__(self, loaded: Loaded, prompts: int, look_alikes: int) -> None:
        self.model, self.tokenizer = loaded.model, loaded.tokenizer
        self.original = copy.deepcopy(loaded.model)
        chat = loaded.splits.chat
        whole = loaded.splits.report()
        sides = [Asked(side.prompts[:prompts], side.tokens[:prompts]) for side in (whole.harmful, whole.harmless)]
        alike = load_prompts("builtin:look-alikes").prompts[:look_alikes]
        self.report = Report(*sides, Asked(alike, chat.encode(alike)))
        before = observe(self.original, self.tokenizer, self.report)
        self.before: Observation = replace(before, head=Head(self.original))

    def figures(self, name: str, seen: Observation) -> Figures:
        """Return the figures of what was seen of an edited model."""
        divergence = diverge(self.before, seen)
        refused = [sum(reply.refused for reply in side) for side in (seen.harmful, seen.look_alikes)]
        counts = len(seen.harmful), len(seen.look_alikes)
        kl = divergence.first_token.value, divergence.over_replies.value
        return Figures(name, refused[0], counts[0], refused[1], counts[1], *kl)

    def measure(self, name: str, edit: Callable[[PreTrainedModel], object]) -> Figures:
        """Let `edit` change the weights of the model in place, measure it, and give it its weights back."""
        edit(self.model)
        try:
            seen = observe(self.model, self.tokenizer, self.report, along=self.before.harmless)
            return self.figures(name, seen)
        finally:
            with torch.no_grad():
                for one, other in zip(self.model.parameters(), self.original.parameters(), strict=True):
                    one.copy_(other)


def arguments(description: str | None, report: int = 100, look_alikes: int = 120) -> argparse.ArgumentParser:
    """Return a parser with what every script on the ruler takes."""
    parser = argparse.ArgumentParser(description=(description or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--harmful", default="builtin:harmful")
    parser.add_argument("--n-train", type=int, default=128, help="training prompts a side")
    parser.add_argument("--report", type=int, default=report, help="report prompts a side")
    parser.add_argument("--look-alikes", type=int, default=look_alikes)
    return parser


def add_search(parser: argparse.ArgumentParser) -> None:
    """Add what makes searches shorter than those of a run."""
    parser.add_argument("--steps", type=int, default=stages.STEPS, help="steps of a stage")
    parser.add_argument("--examples", type=int, default=stages.EXAMPLES, help="places, and answers, in one step")
    parser.add_argument("--pressures", type=float, nargs="+", default=pressure.REFUSAL_WEIGHTS)
    parser.add_argument(
        "--closing", type=int, default=closing.CLOSING, help="edits, and stages, that close in on a KL of 0.02"
    )


def set_search(asked: argparse.Namespace) -> None:
    """Let the searches of this process be as short as was asked."""
    stages.STEPS, stages.EXAMPLES = asked.steps, asked.examples
    pressure.REFUSAL_WEIGHTS, closing.CLOSING = tuple(asked.pressures), asked.closing
    pressure.HARDER = min(pressure.HARDER, asked.closing)


def kept(path: Path) -> Iterator[Figures]:
    """Yield the figures that an earlier run has written."""
    if path.exists():
        yield from (Figures(**json.loads(line)) for line in path.read_text(encoding="utf-8").splitlines())


def keep(path: Path, figures: Figures) -> None:
    """Add figures to a file and say so."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(figures)) + "\n")
    print(figures, flush=True)


def show(title: str, rows: Sequence[Figures]) -> None:
    """Print figures as a table."""
    table = Table(title=title)
    for column in ("", "refused", "look-alikes refused", "KL first", "KL replies"):
        table.add_column(column, justify="left" if not column else "right")
    for one in rows:
        shares = f"{one.refused}/{one.harmful}", f"{one.look_alikes_refused}/{one.look_alikes}"
        table.add_row(one.name, *shares, f"{one.kl_first:.4f}", f"{one.kl_replies:.4f}")
    Console(width=120).print(table)
