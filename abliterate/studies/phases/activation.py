"""What a safety vector does while a reply is made: added or taken away from a location of the reply on, outcome by outcome.

A1 adds it from the end of the filled-up sentence on: does what has gone on turn? A2 adds it from the end of the prompt on: does
the model turn without going on? R1 takes it away from the end of complete prompts on, R2 from the fill's end on, where a reply
had turned by itself; where too few did, replies that A1 made turn, which is done to them still. Random vectors of equal length stand beside each; what comes before the location keeps its stream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.evaluation.paired import Changed, paired_changes
from abliterate.evaluation.statistics import Rate
from abliterate.interventions import FROM_LAST_TOKEN, ablated, added
from abliterate.models.generation import generate
from abliterate.models.head import kl_divergence
from abliterate.models.live_model import LiveModel
from abliterate.models.offload import streaming_of
from abliterate.prompts.texts import Text
from abliterate.replies.concepts import concept_of
from abliterate.storage.record_log import RecordLog, digest, once
from abliterate.studies.common import random_vectors
from abliterate.studies.phases.labels import Label, LabelledReply, cut, labelled
from abliterate.studies.phases.outcomes import (
    ANSWERS,
    EVADES,
    EVADES_TURNS,
    GOES_ON,
    GOES_ON_TURNS,
    INCOHERENT,
    NEUTRAL_TURNS,
    REFUSES,
    SAFE,
    changed_outcomes,
    outcome_name,
)
from abliterate.studies.phases.told import Told
from abliterate.studies.replies import Tokens
from abliterate.studies.upper import Upper

SELECT, REPORT = "select", "report"

A1, A2, R1, R2 = "A1", "A2", "R1", "R2"
WHAT = {
    A1: "added from location 2 on: turns after going on",
    A2: "added from location 1 on: turns without going on",
    R1: "removed from location 1 on: answers what was refused",
    R2: "removed from location 2 on: the turn vanishes",
}
BEFORE = {A1: {GOES_ON}, A2: {GOES_ON, GOES_ON_TURNS}, R1: {REFUSES}, R2: {GOES_ON_TURNS}}
"""Outcomes that an intervention starts from."""

AFTER = {A1: {GOES_ON_TURNS}, A2: {EVADES, EVADES_TURNS, NEUTRAL_TURNS}, R1: {ANSWERS}, R2: {GOES_ON}}
"""Outcomes that it shall bring about."""

MOST = 24
"""Prompts of each row, at most."""

LEAST = 6
"""Prompts of the report part that a verdict needs: with fewer no test can show anything."""

SPONTANEOUS = 10
"""Prompts of the report part that must turn by themselves before R2 looks at them, and not at turns that adding made."""

COHERENT = 0.1
"""Share of replies that may fall apart at the strength that is chosen."""

TOKENS = 64
"""New tokens of each reply, at most."""


@dataclass(frozen=True)
class Intervened:
    """One vector, one way of using it, one strength: what became of prompts, of harmless ones, and of the first token."""

    vector: str
    kind: str
    alpha: float
    split: str
    before: tuple[str, ...]
    after: tuple[str, ...]
    harmless: Rate | None = None
    divergence: float | None = None
    made_by: str | None = None
    """What made the turns that a removal starts from, None where they came by themselves."""

    @property
    def brought(self) -> tuple[bool, ...]:
        """Return, prompt by prompt, whether what was looked for came about."""
        return tuple(name in AFTER[self.kind] for name in self.after)

    @property
    def rate(self) -> Rate:
        """Return in how many prompts it came about."""
        return Rate(sum(self.brought), len(self.brought))

    @property
    def incoherent(self) -> Rate:
        """Return how many replies fall apart."""
        return Rate(self.after.count(INCOHERENT), len(self.after))

    def to_json(self) -> dict[str, Any]:
        """Return all of it, the outcomes as a matrix of before by after."""
        return {
            "vector": self.vector, "kind": self.kind, "alpha": self.alpha, "part": self.split, "brought": self.rate.to_json(),
            "incoherent": self.incoherent.to_json(), "moved": changed_outcomes(self.before, self.after),
            "harmless": self.harmless.to_json() if self.harmless else None, "kl": self.divergence, "made_by": self.made_by,
        }  # fmt: skip


@dataclass(frozen=True)
class Controlled:
    """A vector beside random ones of equal length, at the same strength, on the report part."""

    own: Intervened
    random: tuple[Intervened, ...]

    @property
    def best(self) -> Intervened:
        """Return the random vector that brings about most."""
        return max(self.random, key=lambda one: one.rate.count)

    @property
    def beats(self) -> bool:
        """Return whether the vector brings about more than each random one."""
        return self.own.rate.count > self.best.rate.count

    @property
    def test(self) -> Changed:
        """Return McNemar's exact test of the vector against the best random one, on the same prompts."""
        return paired_changes(self.best.brought, self.own.brought)


@dataclass(frozen=True)
class Case:
    """Where an intervention begins: the prompt, what of its reply is kept, and what had become of it."""

    text: Text
    kept: Tokens
    outcome: str


@dataclass(frozen=True)
class Made:
    """Replies that adding a vector from the fill's end on made turn: their cases, and what was added at which strength."""

    name: str
    vector: Float[Tensor, " d_model"]
    alpha: float
    cases: tuple[Case, ...]

    @property
    def words(self) -> str:
        """Return what made them."""
        return f"{self.name} at {self.alpha:g}"


@dataclass(frozen=True)
class Act:
    """What is done to the stream: a vector added so many times its length, or removed; what `made` the cases is added too."""

    vector: Float[Tensor, " d_model"]
    alpha: float
    removed: bool
    made: Made | None = None


@dataclass(frozen=True)
class Acting:
    """How interventions are made: on which model, at which layer, with how many new tokens, and how replies are labelled."""

    live: LiveModel
    layer: int
    tokens: int
    settle: int
    label: Label = concept_of
    log: RecordLog | None = None

    def outcomes(self, told: Told, cases: Sequence[Case], act: Act) -> tuple[str, ...]:
        """Return what becomes of cases, and of each reply as a whole what it has been kept of it and what is new."""
        return tuple(outcome_name(reply, told.form.sentence) for reply in self.replies(told, cases, act))

    def replies(self, told: Told, cases: Sequence[Case], act: Act) -> list[LabelledReply]:
        """Return the replies, labelled, with something done from the last token that is given on."""
        if not cases:
            return []
        live, language = self.live, told.form.language
        given = [(*case.text.tokens, *case.kept) for case in cases]

        def make() -> list[list[int]]:
            with ExitStack() as contexts:
                if act.made is not None:
                    contexts.enter_context(self.acting(Act(act.made.vector, act.made.alpha, removed=False)))
                contexts.enter_context(self.acting(act))
                return generate(
                    live.model, live.tokenizer, given, self.tokens, batch_size=live.batch_size, progress=live.progress,
                    title="replies under a vector", share=False,
                )  # fmt: skip

        done = [digest(act.vector.tolist()), self.layer, act.alpha, act.removed]
        key = ["acting", *done, [*map(list, given)], self.tokens]
        key += [] if act.made is None else [digest(act.made.vector.tolist()), act.made.alpha]
        said = once(self.log, key, make)
        cuts = [cut((*case.kept, *new), live.tokenizer, language) for case, new in zip(cases, said, strict=True)]
        return [labelled(one, self.label, language, self.settle) for one in cuts]

    def acting(self, act: Act) -> AbstractContextManager[Any]:
        """Return the context in which the vector is added to the layer's stream, or taken from all that is written."""
        live, row = self.live, act.vector.float().to(self.live.model.device)
        if act.removed:
            return ablated(live.model, row, architecture=live.architecture, when=FROM_LAST_TOKEN)
        return added(live.model, row, self.layer, live.architecture, scale=act.alpha, when=FROM_LAST_TOKEN)


def cases_of(told: Told, kind: str, splits: Sequence[str]) -> list[Case]:
    """Return the cases of a kind of intervention among the phrases of these parts, at most so many."""
    found = []
    for _, text, reply in told.cases(*splits):
        outcome = outcome_name(reply, told.form.sentence)
        if outcome in BEFORE[kind]:
            kept = reply.cut.tokens[: reply.cut.fill_end] if kind in (A1, R2) else ()
            found.append(Case(text, kept, outcome))
    return found[:MOST]


@dataclass(frozen=True)
class Effects:
    """All that vectors do: each row with its random ones beside, and rows at other strengths."""

    rows: tuple[Intervened, ...]
    controlled: tuple[Controlled, ...]
    too_few: Mapping[str, int]
    """Kinds of interventions for which there were too few prompts to begin with, and how many there were."""

    def to_json(self) -> dict[str, Any]:
        """Return rows and counts; the random vectors are among the controls."""
        return {"rows": [one.to_json() for one in self.rows], "too_few": dict(self.too_few), "what": WHAT}

    def controls_json(self) -> list[dict[str, Any]]:
        """Return what random vectors of equal length bring about."""
        shown = {(one.vector, one.kind, one.alpha): one for pair in self.controlled for one in pair.random}
        return [one.to_json() for one in shown.values()]


@dataclass(frozen=True)
class Trial:
    """One kind of intervention on prompts of two parts: strengths are chosen on the first, figures are of the second."""

    acting: Acting
    kind: str
    told: Told
    harmless: Told | None
    kl: Callable[[Tensor, float], float | None]
    made: Made | None = None

    def cases(self, split: str) -> list[Case]:
        """Return the prompts of a part that the intervention starts from."""
        return cases_of(self.told, self.kind, [split]) if self.made is None else list(self.made.cases)

    def at(self, name: str, vector: Float[Tensor, " d_model"], alpha: float, split: str) -> Intervened:
        """Return what a vector does at a strength to the prompts of a part; harmless ones beside on the report part."""
        cases = self.cases(split)
        removed = self.kind in (R1, R2)
        after = self.acting.outcomes(self.told, cases, Act(vector, alpha, removed, self.made))
        before = tuple(case.outcome for case in cases)
        if removed or split != REPORT:
            made_by = None if self.made is None else self.made.words
            return Intervened(name, self.kind, alpha, split, before, after, made_by=made_by)
        safe = None if self.harmless is None else safe_harmless(self.acting, self.harmless, vector, alpha)
        return Intervened(name, self.kind, alpha, split, before, after, safe, self.kl(vector, alpha))

    def tried(self, name: str, vector: Float[Tensor, " d_model"], alphas: Sequence[float]) -> list[Intervened]:
        """Return the vector at each strength on the select part; a removal has none."""
        if self.kind in (R1, R2) or len(alphas) < 2:
            return []
        return [self.at(name, vector, alpha, SELECT) for alpha in alphas]


def chosen_alpha(tried: Sequence[Intervened]) -> float:
    """Return the strength that brings about most while few replies fall apart; of equals the least, 1 where none was tried."""
    kept = [one for one in tried if one.after and one.incoherent.value <= COHERENT]
    if not kept:
        return min((one.alpha for one in tried), default=1.0)
    return min(kept, key=lambda one: (-one.rate.count, one.alpha)).alpha


def effects_of(
    acting: Acting,
    vectors: Mapping[str, Float[Tensor, " d_model"]],
    complete: Told | None,
    begun: Told | None,
    harmless: Told | None,
    *,
    alphas: Sequence[float],
    controls: int,
    seed: int = 0,
) -> Effects:
    """Return what each vector does in every kind of intervention, beside random vectors, on phrases that made none of them.

    Strengths are among `alphas`, chosen on the select part for each vector; random vectors have the same. `harmless` are
    harmless phrases in the form of `begun`. Vectors have one length.
    """
    rows: list[Intervened] = []
    controlled: list[Controlled] = []
    too_few: dict[str, int] = {}
    if not vectors:
        return Effects((), (), {})
    drawn = random_vectors(next(iter(vectors.values())), controls, seed)
    kl = divergences(acting, harmless)
    for kind, told in ((A1, begun), (A2, begun), (R1, complete), (R2, begun)):
        count = 0 if told is None else len(cases_of(told, kind, [REPORT]))
        made = made_turns(controlled, vectors, begun) if kind == R2 and count < SPONTANEOUS else None
        if told is None or max(count, len(made.cases) if made else 0) < LEAST:
            too_few[kind] = count
            continue
        trial = Trial(acting, kind, told, harmless if kind == A2 else None, kl, made)
        beside: dict[float, tuple[Intervened, ...]] = {}
        for name, vector in vectors.items():
            tried = trial.tried(name, vector, alphas)
            alpha = chosen_alpha(tried)
            if alpha not in beside:
                named = enumerate(drawn, 1)
                beside[alpha] = tuple(trial.at(f"random {place}", one, alpha, REPORT) for place, one in named)
            own = trial.at(name, vector, alpha, REPORT)
            rows += [*tried, own]
            controlled.append(Controlled(own, beside[alpha]))
    return Effects(tuple(rows), tuple(controlled), too_few)


def made_turns(
    controlled: Sequence[Controlled], vectors: Mapping[str, Float[Tensor, " d_model"]], begun: Told | None
) -> Made | None:
    """Return the turns of the vector that made most by being added from the fill's end on; none where they are too few."""
    added_ones = [pair.own for pair in controlled if pair.own.kind == A1]
    best = max(added_ones, key=lambda one: one.rate.count, default=None)
    if best is None or begun is None or best.rate.count < LEAST:
        return None
    cases = zip(cases_of(begun, A1, [REPORT]), best.brought, best.after, strict=True)
    turned = tuple(replace(case, outcome=after) for case, brought, after in cases if brought)
    return Made(best.vector, vectors[best.vector], best.alpha, turned)


def safe_harmless(acting: Acting, told: Told, vector: Float[Tensor, " d_model"], alpha: float) -> Rate:
    """Return how many harmless prompts have safety in their reply where the vector is added from the prompt's end on."""
    cases = [Case(text, (), "") for _, text, _ in told.cases(REPORT)][:MOST]
    names = acting.outcomes(told, cases, Act(vector, alpha, removed=False))
    return Rate(sum(name in SAFE for name in names), len(names))


def divergences(acting: Acting, told: Told | None) -> Callable[[Tensor, float], float | None]:
    """Return what tells how far adding a vector at the prompt's end moves the first token of harmless replies, in nats."""
    prompts = [] if told is None else [text.tokens for _, text, _ in told.cases(REPORT)][:MOST]
    if not prompts or streaming_of(acting.live.model) is not None:
        return lambda vector, alpha: None
    upper = Upper(acting.live, acting.layer, prompts)
    seen: dict[str, float] = {}
    with torch.no_grad():
        usual = upper.next_log_probs(upper.final)

    def divergence(vector: Tensor, alpha: float) -> float:
        key = digest([vector.tolist(), alpha])
        if key not in seen:
            with torch.no_grad():
                hidden = upper.hidden(alpha * vector.float(), upper.batch.lengths - 1)
                seen[key] = float(kl_divergence(usual, upper.next_log_probs(hidden)).mean())
        return seen[key]

    return divergence
