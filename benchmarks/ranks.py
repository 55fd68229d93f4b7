"""Does an edit of several directions do better? Searches of rank 1, 2, 3, each with several seeds, on one ruler.

    python benchmarks/ranks.py MODEL --out DIR --ranks 1 2 3 --seeds 0 1 2 --starts spread random

All begin with the same edit: the automatic choice at strength 1, further directions at strength 0. `spread` starts those
along which refused prompts differ most (`abliterate run --optimize --edit-rank K`), `random` anywhere. Every point of every
front is written into the weights and measured on the report split (`ruler.py`). What is done is kept in DIR, stage by stage
and point by point: a second call goes on. --leader FILE... holds the fronts against those of the leading tool's search, rebuilt
(`leader.py --ruler`, which writes such files): its Pareto-optimal trials are measured by the same ruler. The page of the fronts needs plotly (pip install plotly).
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from ruler import Figures, Prepared, Ruler, add_search, arguments, keep, kept, set_search, show  # beside this one
from transformers import PreTrainedModel

from abliterate import orthogonalize
from abliterate.directions.basis import spread_basis
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT
from abliterate.projection import unit_rows
from abliterate.search import stages
from abliterate.search.stages import SearchData, search
from abliterate.search.variables import Variables

Edit = Callable[[PreTrainedModel], object]

FEW = 0.1
"""The share of refusals at which edits are compared by their KL."""


def start_of(prepared: Prepared, rank: int, start: str, seed: int) -> Variables:
    """Return where a search begins."""
    architecture = prepared.loaded.architecture
    if rank == 1:
        return Variables.start(architecture, prepared.first)
    if start == "random":
        others = torch.randn(rank - 1, architecture.d_model, generator=torch.Generator().manual_seed(seed))
        return Variables.start(architecture, unit_rows(torch.cat([prepared.first[None], others])))
    refused, answered = prepared.states()
    return Variables.start(architecture, spread_basis(prepared.first, refused, answered.mean(dim=0), rank))


@contextmanager
def one_beginning() -> Iterator[None]:
    """Inside the context, searches listen to the start once: it is the same edit for all of them, whatever they turn."""
    begin = stages.Search.begin
    begun: list[stages.State] = []

    def shared(search: stages.Search, start: Variables) -> stages.State:
        count = search.edit_losses.token_count
        if not begun:
            begun.append(deepcopy(begin(search, start)))
        else:  # as if each had listened for itself
            count.forward += begun[0].token_count.forward
            count.backward += begun[0].token_count.backward
        return replace(deepcopy(begun[0]), edit=start, token_count=count)

    stages.Search.begin = shared  # type: ignore[method-assign]
    try:
        yield
    finally:
        stages.Search.begin = begin  # type: ignore[method-assign]


def points_of(prepared: Prepared, name: str, start: Variables, seed: int, folder: Path) -> list[tuple[str, Variables]]:
    """Return the points of a search by name; what was searched before is read."""
    splits = prepared.loaded.splits
    sides = (*splits.training(), *splits.selecting())
    data = SearchData(*([*map(tuple, splits.chat.encode(one.prompts))] for one in sides), prepared.replies.replies)
    found = search(prepared.loaded.live(SILENT), start, data, seed=seed, state_file=folder / f"{name}.safetensors")
    points = [(f"{name} {point.refusal_weight}", point.edit) for point in found.front.points]
    return [("start", points[0][1]), *points[1:]]


def leader_points(prepared: Prepared, files: list[Path], asked: argparse.Namespace) -> Iterator[tuple[str, str, Edit]]:
    """Yield the name of a search of the leading tool, that of each trial on its front, and what the trial does to the weights."""
    import leader  # beside this one; needs optuna
    from leader_trial import DEFAULTS

    for number, file in enumerate(files):
        chat, rank = prepared.loaded.splits.chat, DEFAULTS[leader.defaults_in(file)].rank
        name = f"leader {leader.defaults_in(file)} seed {number}"
        for trial in leader.ruled_trials(file, prepared.loaded.model, chat, asked.harmful, asked.harmless):
            yield name, f"{name} {trial.number}", partial(leader.apply_trial, trial=trial, rank=rank)


def written(edit: Variables) -> Edit:
    """Return what a point of a search does to the weights."""
    return lambda model: orthogonalize(model, edit.direction, edit.recipe())


def summary(rows: list[Figures], name: str) -> Figures | None:
    """Return the point of a search with least KL over replies at few refusals."""
    own = [one for one in rows if one.name.startswith(f"{name} ") and one.refused <= FEW * one.harmful]
    return min(own, key=lambda one: one.kl_replies, default=None)


def plot(path: Path, rows: list[Figures], searches: list[str]) -> None:
    """Draw the points of all searches as a page, a colour for each rank and start."""
    import plotly.graph_objects as graph
    from plotly.colors import qualitative

    kinds = [*dict.fromkeys(name.partition(" seed")[0] for name in searches)]
    lines = []
    for name in searches:
        own = sorted((one for one in rows if one.name.startswith(f"{name} ")), key=lambda one: one.kl_replies)
        colour = qualitative.Plotly[kinds.index(name.partition(" seed")[0])]
        shares = [one.refused / one.harmful for one in own]
        lines.append(graph.Scatter(x=[one.kl_replies for one in own], y=shares, name=name, line={"color": colour}))
    page = graph.Figure(lines)
    page.update_xaxes(type="log", title="KL over replies, harmless prompts (nats)")
    page.update_yaxes(title="harmful prompts refused", tickformat=".0%")
    page.write_html(path, include_plotlyjs=True)


def starts(asked: argparse.Namespace, rank: int) -> list[str]:
    """Return the starts of a rank; one direction has one."""
    return list(asked.starts) if rank > 1 else ["one"]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--starts", nargs="+", choices=("spread", "random"), default=["spread"])
    parser.add_argument("--harmless", default="builtin:harmless")
    add_search(parser)
    parser.add_argument("--leader", type=Path, nargs="+", help="trials by leader.py --ruler, a file for each seed")
    parser.add_argument("--plot", type=Path, help="page that shows the fronts")
    asked = parser.parse_args()
    set_search(asked)
    sides = {"harmful": asked.harmful, "harmless": asked.harmless}
    options = Options(asked.model, asked.out / "edited", optimize=True, n_train=asked.n_train, **sides)
    prepared = Prepared.of(options)
    ruler = Ruler(prepared.loaded, asked.report, asked.look_alikes)
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "figures.jsonl"
    done = {one.name: one for one in kept(file)}
    done["original"] = ruler.figures("original", ruler.before)
    searches: list[str] = []

    def measure(search_name: str, point: str, edit: Edit) -> None:
        if search_name not in searches:
            searches.append(search_name)
        if point not in done:
            done[point] = ruler.measure(point, edit)
            keep(file, done[point])

    turns = [(seed, rank, start) for seed in asked.seeds for rank in asked.ranks for start in starts(asked, rank)]
    with one_beginning():
        for seed, rank, start in turns:
            name = f"rank {rank} {start} seed {seed}"
            for point, edit in points_of(prepared, name, start_of(prepared, rank, start, seed), seed, asked.out):
                measure(name, point, written(edit))
    if asked.leader:
        for name, point, trial in leader_points(prepared, asked.leader, asked):
            measure(name, point, trial)
    show(f"{asked.model}, every point", list(done.values()))
    if asked.plot:
        plot(asked.plot, [*done.values()], searches)
    best = [one for name in searches if (one := summary([*done.values()], name))]
    show(f"least KL over replies with at most {FEW:.0%} refused", best)


if __name__ == "__main__":
    main()
