"""A vector for each form and location: the mean state where the next sentence refuses minus the mean where it answers.

Beside it, in the same form and at the same place, the difference of harmful and harmless prompts (`harm`): another question,
never to be mixed up with the first. A vector that has too few cases of a side is left out, and says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.cache import ActivationCache
from abliterate.activations.places import PlacedActivations, capture_places
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.replies.places import with_reply
from abliterate.storage.record_log import RecordLog
from abliterate.studies.common import Contrast, reliability, shuffled_vectors
from abliterate.studies.positions.listen import Case, Heard, Reply
from abliterate.studies.positions.method import ENOUGH, label_at, too_few

REFUSED, HARM = "refused", "harm"

CASES = 64
"""Replies a side, at most, whose states are taken at the later locations."""


@dataclass(frozen=True)
class Cell:
    """The states of one form at one location, with what each is: refused (1) or answered (0), or a share of both.

    `depths` are how many tokens of the reply come before the location; `empty` says why there is no vector, in words.
    """

    form: str
    location: int
    kind: str
    layers: tuple[int, ...]
    states: Float[Tensor, "rows layers d_model"]
    labels: tuple[float, ...]
    prompts: tuple[str, ...]
    strata: tuple[str, ...]
    sentences: tuple[str, ...] = ()
    depths: tuple[int, ...] = ()
    empty: str | None = None

    @property
    def name(self) -> str:
        """Return `form/location`, with the kind behind it where it is not the study's own."""
        return f"{self.form}/{self.location}" + ("" if self.kind == REFUSED else f"-{self.kind}")

    def contrast(self, layer: int) -> Contrast:
        """Return the two sides at a layer."""
        rows = self.states[:, self.layers.index(layer)]
        return Contrast.of(rows, self.labels, self.prompts, self.strata)

    def vector(self, layer: int) -> Float[Tensor, " d_model"]:
        """Return the difference in means at a layer, at its own length."""
        return self.contrast(layer).vector

    def at_equal_depth(self, layer: int) -> Float[Tensor, " d_model"]:
        """Return the vector of states from which what goes with their depth in the reply is taken away (least squares)."""
        rows = self.states[:, self.layers.index(layer)].double().numpy()
        depth = numpy.asarray(self.depths, dtype=numpy.float64)
        depth -= depth.mean()
        if depth.any():
            rows = rows - numpy.outer(depth, depth @ rows / (depth @ depth))
        return replace(self.contrast(layer), rows=torch.from_numpy(rows)).vector


@dataclass(frozen=True)
class Taken:
    """How states are taken: at which layers, how many cases a vector needs, with which seed, what keeps them."""

    layers: tuple[int, ...]
    enough: int = ENOUGH
    seed: int = 0
    cache: ActivationCache | None = None
    kept: RecordLog | None = None


@dataclass(frozen=True)
class FormStates:
    """The states of all prompts of a form, before the reply and at the phrase's end, harmful ones first."""

    heard: Heard
    placed: PlacedActivations

    def rows(self, cases: Sequence[Case], side: str, place: str = "prompt_end") -> Float[Tensor, "rows layers d_model"]:
        """Return the states of some cases of a side."""
        own = self.heard.harmful if side == "harmful" else self.heard.harmless
        at = {case.name: row for row, case in enumerate(own)}
        before = 0 if side == "harmful" else len(self.heard.harmful)
        index = [before + at[case.name] for case in cases]
        return self.placed.resid[index, :, self.placed.names.index(place)]


def states_of(live: LiveModel, heard: Heard, taken: Taken) -> FormStates:
    """Return the states of a form's prompts. Raises InputError as `capture_places`."""
    texts = [case.text for case in (*heard.harmful, *heard.harmless)]
    placed = capture_places(live, texts, ("phrase_end", "prompt_end"), taken.layers, cache=taken.cache, kept=taken.kept)
    return FormStates(heard, placed)


def first_cells(states: FormStates, taken: Taken) -> Iterator[Cell]:
    """Yield the vectors of a form at the end of its prompts: refused minus answered, and harmful minus harmless."""
    yield refused_cell(states, taken)
    yield harm_cell(states, taken)


def refused_cell(states: FormStates, taken: Taken) -> Cell:
    """Return the vector of refused minus answered train prompts."""
    heard = states.heard
    cases = heard.of("harmful", "train")
    labels = tuple(case.share for case in cases)
    names, strata = tuple(case.name for case in cases), tuple(case.phrase.category for case in cases)
    kinds = tuple(next((r.sentences[0] for r in case.every if r.start == 1), "") for case in cases)
    rows = states.rows(cases, "harmful")
    return checked(
        Cell(heard.form.name, 1, REFUSED, taken.layers, rows, labels, names, strata, kinds, (0,) * len(cases)), taken
    )


def harm_cell(states: FormStates, taken: Taken) -> Cell:
    """Return the vector of harmful minus harmless train prompts, whatever is said to them."""
    heard = states.heard
    cases, matched = heard.of("harmful", "train"), heard.of("harmless", "train")
    names, strata = tuple(case.name for case in cases), tuple(case.phrase.category for case in cases)
    rows = torch.cat([states.rows(cases, "harmful"), states.rows(matched, "harmless")])
    return checked(
        Cell(
            heard.form.name, 1, HARM, taken.layers, rows, (1.0,) * len(cases) + (0.0,) * len(matched), names * 2,
            strata * 2, depths=(0,) * len(rows),
        ),
        taken,
    )  # fmt: skip


def later_cell(live: LiveModel, heard: Heard, location: int, taken: Taken) -> Cell:
    """Return the vector of a form at the end of a sentence of the reply: of replies in which nothing was safety before."""
    found = [
        (case, reply, label)
        for case in heard.of("harmful", "train")
        for reply in case.every
        if (label := label_at(reply.labels, location)) is not None
    ]
    why = too_few([float(label) for _, _, label in found], taken.enough)
    none = torch.zeros(0, len(taken.layers), live.architecture.d_model)
    if why:
        return Cell(heard.form.name, location, REFUSED, taken.layers, none, (), (), (), empty=why)
    chosen = [found[place] for place in balanced([label for *_, label in found], taken.seed)]
    texts = [text_to(case, reply, location, live, heard.form.language) for case, reply, _ in chosen]
    placed = capture_places(live, texts, ("end",), taken.layers, cache=taken.cache, kept=taken.kept)
    return checked(
        Cell(
            heard.form.name,
            location,
            REFUSED,
            taken.layers,
            placed.resid[:, :, 0],
            tuple(float(label) for _, _, label in chosen),
            tuple(case.name for case, _, _ in chosen),
            tuple(case.phrase.category for case, _, _ in chosen),
            tuple(reply.sentences[location - 1] if label else "" for _, reply, label in chosen),
            tuple(len(text.tokens) - len(case.text.tokens) for text, (case, _, _) in zip(texts, chosen, strict=True)),
        ),
        taken,
    )


def balanced(labels: Sequence[bool], seed: int) -> list[int]:
    """Return the places of at most so many cases of each side, drawn by the seed, in their order."""
    rng = numpy.random.default_rng([seed, 9])
    chosen: list[int] = []
    for side in (True, False):
        own = [place for place, label in enumerate(labels) if label == side]
        chosen += own if len(own) <= CASES else rng.choice(own, CASES, replace=False).tolist()
    return sorted(chosen)


def text_to(case: Case, reply: Reply, location: int, live: LiveModel, language: str) -> Text:
    """Return the text as far as the location, the end of the sentence before the one in question, named `end`."""
    whole = with_reply(case.text, reply.tokens, live.tokenizer, language)
    end = whole.place(f"sentence_end[{location - 2}]")
    return Text(whole.tokens[: end + 1], {"end": end})


def checked(cell: Cell, taken: Taken) -> Cell:
    """Return the cell, empty where it has too few cases, or its cases cannot be halved or shuffled."""
    why = too_few(cell.labels, taken.enough)
    if why is None:
        if pure(cell):
            cell = replace(cell, strata=("",) * len(cell.strata))
        try:
            contrast = cell.contrast(cell.layers[0])
            reliability(contrast.rows, contrast.labels, contrast.prompts, halves=2, seed=taken.seed)
            shuffled_vectors(contrast, 2, taken.seed)
        except InputError as error:
            why = str(error)
    return cell if why is None else replace(cell, empty=why)


def pure(cell: Cell) -> bool:
    """Return whether labels are the same inside of each stratum, so that none can be shuffled there."""
    labels: dict[str, set[float]] = {}
    for name, label in zip(cell.strata, cell.labels, strict=True):
        labels.setdefault(name, set()).add(label)
    return all(len(own) == 1 for own in labels.values())
