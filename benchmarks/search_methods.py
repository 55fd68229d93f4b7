"""What else the search might turn: each method from the same start, with the same prompts, steps and examples.

    python benchmarks/search_methods.py MODEL HARMFUL HARMLESS [--method fixed ...]

    start     the automatic choice: one projected direction at strength 1 everywhere
    plain     the plain difference in means at the same place, at strength 1 everywhere
    fixed     that direction; a strength for each layer and site
    kernel    that direction; for attention and MLP a largest strength, where it stands, and a linear fall to a least one
    shared    strengths, and the one direction learned: what the package ships
    writer    strengths, and a direction of its own for each layer and site
    rank 2    strengths, and two directions learned, the second from the plain difference in means

Figures are those of the select split (60 harmful prompts, 128 harmless ones), by which the package chooses.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import leader  # beside this one
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import PreTrainedModel

from abliterate import load_prompts
from abliterate.architectures.architecture import Architecture
from abliterate.interventions import projected
from abliterate.models.gradient_memory import frozen, plan_memory
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer, resolve
from abliterate.parallel.processes import Processes
from abliterate.projection import normalize
from abliterate.prompts.chat_format import ChatFormat
from abliterate.search import pressure, stages
from abliterate.search.examples import OriginalReply
from abliterate.search.losses import EditLosses, TokenCount
from abliterate.search.variables import STRENGTH_STEP, STRONGEST, TURN, Variables
from search import SELECT_HARMFUL, SELECT_HARMLESS, prepare_search

PRESSURES = (0.2, 0.03)


@dataclass(frozen=True)
class Method(Variables):
    """Variables that are turned in another way; `more` are further tensors, by name."""

    more: dict[str, Tensor] = field(default_factory=dict)

    @classmethod
    def of(cls, start: Variables, **more: Tensor) -> Method:
        return cls(start.copy().strengths, start.direction.clone(), more)

    def tensors(self) -> list[Tensor]:
        return [*super().tensors(), *self.more.values()]

    def copy(self) -> Method:
        more = {name: one.detach().clone() for name, one in self.more.items()}
        return type(self)(super().copy().strengths, self.direction.detach().clone(), more)

    def parts(self, site: str, layer: int) -> tuple[Tensor, Tensor]:
        """Return basis `[k, d_model]` and strength of a writer."""
        return (self.direction / self.direction.norm())[None], self.strengths[site][layer]  # type: ignore[index]

    @contextmanager
    def applied(self, model: PreTrainedModel, architecture: Architecture) -> Iterator[None]:
        edits = {}
        for writer in architecture.writers:
            basis, strength = self.parts(writer.site, writer.layer or 0)
            edits[writer] = basis[None], strength
        with projected(model, architecture, edits):
            yield


class Fixed(Method):
    def groups(self) -> list[dict[str, Any]]:
        return super().groups()[:1]


class Kernel(Method):
    """`attn` and `mlp` of `more` hold: largest strength, least as a share, place and reach as shares of the depth."""

    def groups(self) -> list[dict[str, Any]]:
        return [{"params": [self.strengths["embed"], *self.more.values()], "lr": STRENGTH_STEP}]

    def parts(self, site: str, layer: int) -> tuple[Tensor, Tensor]:
        basis, strength = super().parts(site, layer)
        if site in self.more:
            largest, least, place, reach = self.more[site]
            depth = len(self.strengths[site]) - 1  # type: ignore[index]
            fall = ((layer / depth - place).abs() / reach.clamp(min=0.02)).clamp(max=1.0)
            strength = (largest * (1 - fall * (1 - least))).clamp(0.0, STRONGEST)
        return basis, strength


class OwnDirections(Method):
    """`embed`, `attn` and `mlp` of `more` hold a direction for each layer."""

    def groups(self) -> list[dict[str, Any]]:
        turn = TURN / self.direction.numel() ** 0.5
        return [super().groups()[0], {"params": list(self.more.values()), "lr": turn}]

    def bound(self) -> None:
        super().bound()
        with torch.no_grad():
            for one in self.more.values():
                one.copy_(normalize(one))

    def parts(self, site: str, layer: int) -> tuple[Tensor, Tensor]:
        own = self.more[site][layer]
        return (own / own.norm())[None], super().parts(site, layer)[1]


class Plane(Method):
    """`second` of `more` is the other direction; only what of it is orthogonal to the first counts."""

    def groups(self) -> list[dict[str, Any]]:
        turn = TURN / self.direction.numel() ** 0.5
        return [super().groups()[0], {"params": [self.direction, self.more["second"]], "lr": turn}]

    def parts(self, site: str, layer: int) -> tuple[Tensor, Tensor]:
        basis, strength = super().parts(site, layer)
        rest = self.more["second"] - (self.more["second"] @ basis[0]) * basis[0]
        return torch.stack([basis[0], rest / rest.norm()]), strength


def methods(start: Variables, second: Tensor) -> dict[str, Variables]:
    """Return where each method begins."""
    kernel = torch.tensor([1.0, 1.0, 0.7, 0.5])
    own = {site: start.direction.repeat(len(one), 1) for site, one in start.strengths.items()}
    return {
        "fixed": Fixed.of(start),
        "kernel": Kernel.of(start, attn=kernel.clone(), mlp=kernel.clone()),
        "shared": start.copy(),
        "writer": OwnDirections.of(start, **own),
        "rank 2": Plane.of(start, second=second),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("harmful", type=Path)
    parser.add_argument("harmless", type=Path)
    parser.add_argument("--method", nargs="+")
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    pressure.REFUSAL_WEIGHTS = PRESSURES  # type: ignore[assignment]
    bad = load_prompts(str(options.harmful)).prompts[: leader.HARMFUL]
    good = load_prompts(str(options.harmless)).prompts[: leader.HARMLESS]
    source = resolve(str(options.model))
    tokenizer = load_tokenizer(source)
    model = load_model(source, options.dtype)
    chat = ChatFormat(tokenizer, leader.SYSTEM)
    prepared = prepare_search(model, tokenizer, chat, bad, good)
    edit_losses = EditLosses(model, prepared.architecture, Head(model), plan_memory(model), TokenCount())
    selected = edit_losses.states([OriginalReply(prompt, ()) for prompt in prepared.pool.select_harmless])
    live = LiveModel(model, chat, prepared.architecture)
    one = stages.Search(live, edit_losses, prepared.pool, Processes(), selected)
    table = Table(title=f"{SELECT_HARMFUL} harmful, {SELECT_HARMLESS} harmless prompts of the select split")
    for column in ("method", "start", *(f"pressure {weight}" for weight in PRESSURES), "s"):
        table.add_column(column, justify="right")
    with frozen(model):
        begun = one.begin(prepared.start)
        original = edit_losses.states(begun.answers)
        plain = one.judge(Variables(prepared.start.copy().strengths, prepared.second), None)
        table.add_row("plain", f"{plain.refusals} / {plain.kl:.4f}", *[""] * len(PRESSURES), "")
        for name, edit in methods(prepared.start, prepared.second).items():
            if options.method and name not in options.method:
                continue
            state, begin = copy.deepcopy(begun), time.perf_counter()
            state.edit = edit
            for _ in one.following(state, 0, original, limit=None, max_lost=0.0):
                pass
            points = [f"{point.refusals} / {point.kl:.4f}" for point in state.points[1:]]
            table.add_row(name, *points, f"{time.perf_counter() - begin:.0f}")
            print(name, *points, flush=True)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
