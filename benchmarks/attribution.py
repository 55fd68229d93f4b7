"""How well one gradient ranks the candidates that a search may begin with, beside a pass for each of them.

    python benchmarks/attribution.py MODEL [MODEL ...] [--draws 3] [--harmful SPEC --harmless SPEC]

For each model and each draw (half of the select split's harmful prompts, drawn by number) every candidate's bypass is estimated by
attribution and measured exactly, in one process. The table shows the rank correlation (Spearman), where the best five by exact
bypass stand by attribution, what the best of the dozen finalists gives up against the best of all (nats of log-odds), where the
choice of the published rule stands, and the seconds of both. The floor of attribution is three passes over the prompts' tokens
(two forward, one back); that of the exact scores a pass for each candidate.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from scipy.stats import spearmanr

from abliterate.directions.attribution import attributed_bypass
from abliterate.directions.candidates import DEEPEST, candidate_places
from abliterate.directions.directions import Directions
from abliterate.directions.selection import scorer_of, select
from abliterate.directions.start import FINALISTS
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.pipeline.find import capture_training, find_directions
from abliterate.pipeline.load import load_run
from abliterate.pipeline.options import Options
from abliterate.pipeline.replies import collect_training_replies
from abliterate.progress import SILENT
from abliterate.replies.openings import Opening

GROUP = 8
"""Candidates in one exact pass."""


@dataclass(frozen=True)
class Draw:
    """One draw of prompts: both scores of every candidate, and the seconds that they took."""

    estimates: list[float]
    exact: list[float]
    seconds: tuple[float, float]

    def order(self) -> list[int]:
        """Return the candidates by estimate, the best first."""
        return sorted(range(len(self.estimates)), key=self.estimates.__getitem__)

    def ranks(self, wanted: Sequence[int]) -> list[int]:
        """Return where candidates stand by estimate, counted from 1."""
        order = self.order()
        return [1 + order.index(one) for one in wanted]

    @property
    def best(self) -> list[int]:
        """Return the candidates by exact score, the best first."""
        return sorted(range(len(self.exact)), key=self.exact.__getitem__)

    @property
    def given_up(self) -> float:
        """Return how much less refusal the best of all takes away than the best finalist, in nats."""
        return min(self.exact[one] for one in self.order()[:FINALISTS]) - min(self.exact)


def draw_of(
    live: LiveModel,
    directions: Directions,
    openings: Sequence[Opening],
    harmful: Sequence[Sequence[int]],
    harmless: Sequence[Sequence[int]],
) -> Draw:
    """Score every candidate on these prompts, both ways."""
    places = candidate_places(directions, range(int(DEEPEST * live.architecture.depth)))
    rows = torch.stack([directions.at(*place) for place in places])
    begin = time.perf_counter()
    estimates = attributed_bypass(live, rows, harmful, openings)
    middle = time.perf_counter()
    scorer = scorer_of(live, directions, openings, harmful, harmless, None)
    exact: list[float] = []
    for start in range(0, len(places), GROUP):
        exact += scorer.bypass(scorer.harmful, places[start : start + GROUP])
    return Draw(estimates, exact, (middle - begin, time.perf_counter() - middle))


def measure(model: str, draws: int, sides: dict[str, str], table: Table) -> None:
    """Add the rows of one model."""
    loaded = load_run(Options(model, Path("never-written"), optimize=False, **sides), SILENT)
    captured = capture_training(loaded, SILENT)
    replies = collect_training_replies(loaded, SILENT)
    directions = find_directions(loaded, replies, *captured)
    harmful, harmless = (loaded.splits.chat.encode(part.prompts) for part in loaded.splits.selecting())
    live = loaded.live(SILENT)
    places = candidate_places(directions, range(int(DEEPEST * live.architecture.depth)))
    for number in range(draws):
        half = random.Random(number).sample(harmful, max(8, len(harmful) // 2))
        one = draw_of(live, directions, replies.openings, half, harmless)
        try:
            chosen = select(
                live, directions, replies.openings, half, harmless, ask_induce=not replies.few_refusals
            ).chosen
            rank = str(one.ranks([places.index((chosen.layer, chosen.position))])[0])
        except InputError:
            rank = "none admitted"
        correlation = float(spearmanr(one.estimates, one.exact).statistic)
        table.add_row(
            Path(model).name, str(number), f"{len(places)}", f"{len(half)}", f"{correlation:.3f}",
            ", ".join(map(str, one.ranks(one.best[:5]))), f"{one.given_up:.2f}", rank,
            f"{one.seconds[0]:.1f}", f"{one.seconds[1]:.1f}", f"{one.seconds[1] / one.seconds[0]:.0f}",
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("models", nargs="+")
    parser.add_argument("--draws", type=int, default=3)
    parser.add_argument("--harmful")
    parser.add_argument("--harmless")
    asked = parser.parse_args()
    table = Table(title=f"attribution beside exact bypass, {FINALISTS} finalists")
    for column in (
        "model", "draw", "candidates", "prompts", "Spearman", "ranks of the exact best five", "given up",
        "published choice", "s, attribution", "s, exact", "times",
    ):  # fmt: skip
        table.add_column(column, justify="left" if column == "model" else "right")
    given = {side: value for side in ("harmful", "harmless") if (value := getattr(asked, side))}
    for model in asked.models:
        own = {
            side: f"{model}/{side}.txt" for side in ("harmful", "harmless") if (Path(model) / f"{side}.txt").exists()
        }
        measure(model, asked.draws, given or own, table)
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
