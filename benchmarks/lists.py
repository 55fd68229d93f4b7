"""Which harmless prompts should a direction be made against: those matched to the harmful ones by topic, or others?

    python benchmarks/lists.py MODEL --out DIR --harmless builtin:harmless builtin:everyday --seeds 0 1 2

A contrast of matched topics may cancel part of what matters (arXiv 2603.22061). For each list and each seed, a part of its training prompts
is drawn, and of the harmful ones; then a run finds its edit, by the published rule (`--ways rule`) and by a search (`--ways search`), and
every edit is measured by one ruler (`ruler.py`): the same harmful report prompts for all, and the harmless report prompts of all lists together.
With a search, the point is taken that a run takes by default. What is done is kept in DIR: a second call goes on.
"""

from __future__ import annotations

import argparse
import statistics
from dataclasses import replace
from pathlib import Path
from random import Random

from rich.console import Console
from rich.table import Table
from ruler import Figures, Prepared, Ruler, add_search, arguments, keep, kept, set_search, show  # beside this one
from transformers import PreTrainedModel

from abliterate import load_prompts, orthogonalize
from abliterate.pipeline.find import search_data
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT
from abliterate.prompts.prompt_set import PromptSet
from abliterate.search import stages
from abliterate.search.kept import Kept
from abliterate.search.variables import Variables

WAYS = ("rule", "search")


def drawn(spec: str, count: int, seed: int, folder: Path) -> str:
    """Return a file with `count` training prompts of a list, drawn by the seed, and with all of its others."""
    whole = load_prompts(spec)
    train = whole.side("train").prompts
    chosen = set(Random(f"{spec} {seed}").sample(range(len(train)), min(count, len(train))))
    taken = {prompt for place, prompt in enumerate(train) if place not in chosen}
    path = folder / f"{spec.rpartition(':')[2].rpartition('/')[2]}-{seed}.txt"
    path.write_text("".join(f"{one}\n" for one in whole.prompts if one not in taken), encoding="utf-8")
    return str(path)


def edit_by(way: str, prepared: Prepared, seed: int) -> tuple[str, Variables]:
    """Return what a run finds, and a word on where."""
    architecture, chosen = prepared.loaded.architecture, prepared.selection.chosen
    start = Variables.start(architecture, prepared.first)
    place = f"layer {chosen.layer}, {chosen.position}"
    if way == "rule":
        return place, start
    data = search_data(prepared.loaded, prepared.replies, Kept())
    return place, stages.search(prepared.loaded.live(SILENT), start, data, seed=seed).chosen.edit


def measured(asked: argparse.Namespace, way: str, spec: str, seed: int) -> Figures:
    """Find one edit and measure it."""
    name = f"{way} {spec} seed {seed}"
    sides = {"harmless": drawn(spec, asked.n_train, seed, asked.out)}
    sides["harmful"] = drawn(asked.harmful, asked.n_train, seed, asked.out)
    options = Options(asked.model, asked.out / "edited", n_train=asked.n_train, optimize=way == "search", **sides)
    prepared = Prepared.of(options)
    place, edit = edit_by(way, prepared, seed)
    all_lists = [
        prompt for one in asked.measured or asked.harmless for prompt in load_prompts(one).side("report").prompts
    ]
    splits = replace(prepared.loaded.splits, harmless=PromptSet("all", tuple(dict.fromkeys(all_lists))))
    ruler = Ruler(replace(prepared.loaded, splits=splits), asked.report, asked.look_alikes)

    def write(model: PreTrainedModel) -> None:
        orthogonalize(model, edit.direction, edit.recipe())

    print(f"{name}: {place}; before: {ruler.figures('original', ruler.before)}", flush=True)
    return ruler.measure(name, write)


def summary(rows: list[Figures], names: dict[str, list[str]]) -> None:
    """Print the means over the seeds, with the least and the largest."""
    table = Table(title="over the seeds: mean (least to largest)")
    for column in ("", "refused", "look-alikes refused", "KL first", "KL replies"):
        table.add_column(column, justify="left" if not column else "right")
    for title, own in names.items():
        found = [one for one in rows if one.name in own]
        columns = [
            [getattr(one, name) for one in found]
            for name in ("refused", "look_alikes_refused", "kl_first", "kl_replies")
        ]
        table.add_row(
            title,
            *(f"{statistics.mean(one):.4g} ({min(one):.3g} to {max(one):.3g})" for one in columns if one),
        )
    Console(width=120).print(table)


def main() -> None:
    parser = arguments(__doc__, look_alikes=60)
    parser.add_argument("--harmless", nargs="+", default=["builtin:harmless", "builtin:everyday"])
    parser.add_argument(
        "--measured", nargs="+", help="lists whose report prompts measure KL, in place of those of --harmless"
    )
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    add_search(parser)
    parser.set_defaults(n_train=40)  # of some 50 to 90, drawn for each seed
    asked = parser.parse_args()
    set_search(asked)
    asked.out.mkdir(parents=True, exist_ok=True)
    file = asked.out / "figures.jsonl"
    done = {one.name: one for one in kept(file)}
    names: dict[str, list[str]] = {}
    for seed in asked.seeds:
        for way in asked.ways:
            for spec in asked.harmless:
                name = f"{way} {spec} seed {seed}"
                names.setdefault(f"{way} {spec}", []).append(name)
                if name not in done:
                    done[name] = measured(asked, way, spec, seed)
                    keep(file, done[name])
    show(asked.model, list(done.values()))
    summary(list(done.values()), names)


if __name__ == "__main__":
    main()
