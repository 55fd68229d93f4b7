"""Which vector is best to edit with: each taken out of all that is written, beside random ones, on all forms.

Vectors are compared on the select part, by scores alone: the least mean log-odds of a refusal over all forms, among those that
move the first token of harmless replies by less than the limit of a run's own choice. That is asked of what people ask, complete
prompts in a user's turn: a begun sentence goes on in so many ways that every change shows. Refusals that are left are counted
in replies, on the report part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.directions.candidates import MAX_KL
from abliterate.directions.scores import (
    final_states,
    first_token_divergences,
    first_token_log_probs,
    prepare_openings,
    refusal_score,
)
from abliterate.evaluation.paired import Changed, paired_changes
from abliterate.evaluation.statistics import Mean, Rate, json_number
from abliterate.interventions import ablated, ablated_rows
from abliterate.models.decoding import Decoding
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.prompts.phrases import Side
from abliterate.replies.coherence import is_incoherent
from abliterate.replies.openings import Opening
from abliterate.storage.record_log import RecordLog, digest, once
from abliterate.studies.positions.listen import Case, Heard, Safety, judged
from abliterate.studies.replies import Tokens, Unit, decoder, said
from abliterate.studies.scores import ROWS, scores_under

SCORED = 8
"""Prompts of a form and side that are scored, at most."""

REPLIED = 12
"""Prompts of a form that replies are made to: harmful ones of the report part that the model itself refuses."""

PROJECTED = "projected"
"""Behind the name of a vector without what harmless prompts have in common: a run edits along such ones by default."""


@dataclass(frozen=True)
class Edit:
    """One vector taken out of all that is written.

    `score` is the mean log-odds of a refusal on the select part, `select_kl` what the choice asks; `kl` is of harmless prompts
    of the report part as people ask them, `kl_elsewhere` of those of the other forms. `refused` says, form by form, which of the prompts that the model refuses are refused still, wherever
    in the reply; `incoherent` how many of those replies fall apart.
    """

    name: str
    layer: int | None
    score: float
    select_kl: float
    kl: Mean
    kl_elsewhere: Mean
    refused: Mapping[str, tuple[bool, ...]]
    incoherent: Mapping[str, int]

    @property
    def every(self) -> tuple[bool, ...]:
        """Return which prompts of all forms are refused still."""
        return tuple(one for own in self.refused.values() for one in own)

    @property
    def left(self) -> Rate:
        """Return how many of all forms are refused still."""
        return Rate(sum(self.every), len(self.every))

    @property
    def flags(self) -> str:
        """Return what of `abliterate run` edits along this vector."""
        form, place = self.name.split("/")
        plain = "" if place.endswith(PROJECTED) else " --direction mean-difference"
        return f"--form {form} --place {place.removesuffix(f'-{PROJECTED}')} --layer {self.layer}{plain}"

    def to_json(self) -> dict[str, Any]:
        """Return all of it."""
        return {
            "vector": self.name, "layer": self.layer, "score": json_number(self.score),
            "select_kl": json_number(self.select_kl), "kl": self.kl.to_json(), "kl_elsewhere": self.kl_elsewhere.to_json(), "left": self.left.to_json(),
            "forms": {form: Rate(sum(own), len(own)).to_json() for form, own in self.refused.items()},
            "incoherent": sum(self.incoherent.values()),
        }  # fmt: skip


@dataclass(frozen=True)
class Edits:
    """All vectors, random ones beside, and the mean log-odds of a refusal without any of them."""

    rows: tuple[Edit, ...]
    random: tuple[Edit, ...]
    unedited: float

    @property
    def best(self) -> Edit | None:
        """Return the vector that the select part chooses; none where all of them move harmless replies too far."""
        return min((one for one in self.rows if one.select_kl < MAX_KL), key=lambda one: one.score, default=None)

    @property
    def best_random(self) -> Edit | None:
        """Return the random vector that leaves the fewest refusals."""
        return min(self.random, key=lambda one: one.left.count, default=None)

    @property
    def test(self) -> Changed | None:
        """Return McNemar's test of the chosen vector against that random one, on the same prompts; `lost` are refusals fewer."""
        if self.best is None or self.best_random is None or not self.best.every:
            return None
        return paired_changes(self.best_random.every, self.best.every)

    def to_json(self) -> dict[str, Any]:
        """Return the vectors, and which is best; the random ones are among the controls."""
        return {
            "rows": [one.to_json() for one in self.rows], "unedited": json_number(self.unedited), "max_kl": MAX_KL,
            "best": None if self.best is None else self.best.name,
        }  # fmt: skip


@dataclass(frozen=True)
class Editing:
    """How vectors are tried: on which model, with which openings of refusals, how replies are judged, what keeps them."""

    live: LiveModel
    openings: tuple[Opening, ...]
    tokens: int
    safety: Safety
    kept: RecordLog | None = None

    def scored(
        self, vectors: Float[Tensor, "vectors d_model"], harmful: Sequence[Tokens]
    ) -> Float[Tensor, "vectors prompts"]:
        """Return the log-odds of a refusal with each vector taken out. Raises InputError for logits that are no numbers."""
        live = self.live

        def under(rows: Tensor, start: int) -> AbstractContextManager[Any]:
            return ablated_rows(live.model, rows[:, None], architecture=live.architecture)

        return scores_under(live, self.openings, vectors.float(), harmful, under, "ablated", self.kept).double()

    def divergences(
        self, vectors: Float[Tensor, "vectors d_model"], harmless: Sequence[Tokens]
    ) -> Float[Tensor, "vectors prompts"]:
        """Return `KL(original || edited)` of the first reply token with each vector taken out, in nats; errors as `scored`."""
        live, head = self.live, Head(self.live.model)
        usual: list[Tensor] = []
        parts: list[list[float]] = []
        for start in range(0, len(vectors), ROWS):
            rows = vectors[start : start + ROWS].float()

            def make(rows: Tensor = rows) -> list[list[float]]:
                if not usual:
                    usual.append(first_token_log_probs(live.model, head, harmless, live.batch_size))
                batch = prepare_openings(live.model, harmless, batch_size=live.batch_size, copies=len(rows))
                with ablated_rows(live.model, rows[:, None], architecture=live.architecture):
                    found: list[list[float]]
                    found = first_token_divergences(live.model, head, batch, usual[0], len(rows)).tolist()
                return found

            parts += once(self.kept, ["edits, kl", digest(rows.tolist()), [*map(list, harmless)]], make)
        return torch.tensor(parts, dtype=torch.float64)

    def replied(self, vector: Float[Tensor, " d_model"], unit: Unit) -> tuple[tuple[bool, ...], int]:
        """Return which prompts of a unit are refused still with a vector taken out, and how many replies fall apart."""
        live, language = self.live, unit.form.language
        scope = self.kept.under("ablated", digest(vector.tolist())) if self.kept else None
        with ablated(live.model, vector.float(), architecture=live.architecture):
            replies = said(live, unit, Decoding(), tokens=self.tokens, kept=scope)
        texts = [decoder(live)(list(one)) for one in replies]
        starts = [judged(one, text, language, self.safety).start for one, text in zip(replies, texts, strict=True)]
        return tuple(start is not None for start in starts), sum(map(is_incoherent, texts))


def edits_of(
    editing: Editing,
    vectors: Mapping[str, tuple[int, Float[Tensor, " d_model"]]],
    random: Float[Tensor, "count d_model"],
    heard: Mapping[str, Heard],
) -> Edits | None:
    """Return what taking out each vector, named with its layer, does; None without any, and where a part has no prompts."""
    asked = {name: one for name, one in heard.items() if one.form.where == "user" and one.form.sentence == "complete"}
    usual = asked or heard
    others = {name: one for name, one in heard.items() if name not in usual}
    harmful, harmless = prompts_of(heard, "harmful", "select"), prompts_of(usual, "harmless", "select")
    report, elsewhere = prompts_of(usual, "harmless", "report"), prompts_of(others, "harmless", "report")
    if not vectors or not harmful or not harmless or not report:
        return None
    rows = torch.stack([*(vector.float() for _, vector in vectors.values()), *random.float()])
    scores = editing.scored(rows, harmful).mean(1)
    select_kl = editing.divergences(rows, harmless).mean(1)
    kl = editing.divergences(rows, [*report, *elsewhere])
    units = {name: unit for name, one in heard.items() if (unit := refused_unit(one)).texts}
    labels: list[tuple[str, int | None]] = [(name, layer) for name, (layer, _) in vectors.items()]
    labels += [(f"random {number}", None) for number in range(1, len(random) + 1)]
    found = []
    with editing.live.progress.step("editing along each vector", len(rows), "vectors") as advance:
        for place, (name, layer) in enumerate(labels):
            replied = {form: editing.replied(rows[place], unit) for form, unit in units.items()}
            found.append(
                Edit(
                    name, layer, float(scores[place]), float(select_kl[place]),
                    Mean(tuple(kl[place, : len(report)].tolist())), Mean(tuple(kl[place, len(report) :].tolist())),
                    {form: refused for form, (refused, _) in replied.items()},
                    {form: apart for form, (_, apart) in replied.items()},
                )
            )  # fmt: skip
            advance(1)
    nothing = float(unedited(editing, harmful).mean())
    return Edits(tuple(found[: len(vectors)]), tuple(found[len(vectors) :]), nothing)


def unedited(editing: Editing, harmful: Sequence[Tokens]) -> Float[Tensor, " prompts"]:
    """Return the log-odds of a refusal of the model as it is."""
    live = editing.live
    batch = prepare_openings(live.model, harmful, editing.openings, live.batch_size)
    return refusal_score(Head(live.model), batch, final_states(live.model, batch))[0]


def prompts_of(heard: Mapping[str, Heard], side: Side, split: str) -> list[Tokens]:
    """Return prompts of a side and part, the first few of each form."""
    return [case.text.tokens for one in heard.values() for case in one.of(side, split)[:SCORED]]


def refused_unit(heard: Heard) -> Unit:
    """Return the harmful prompts of a form's report part that the model refuses, at once or later."""
    refused: list[Case] = [
        case for case in heard.of("harmful", "report") if case.greedy and case.greedy.start is not None
    ]
    cases = refused[:REPLIED]
    return Unit(heard.form, "harmful", tuple(case.phrase for case in cases), tuple(case.text for case in cases))
