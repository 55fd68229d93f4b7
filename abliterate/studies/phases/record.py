"""`phases.json`: outcomes, onsets, what interventions do, beside their controls, and a verdict for each claim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.evaluation.figure_names import LATE, interval_text, percent, rate_words
from abliterate.evaluation.statistics import Rate
from abliterate.studies.common import NOT_DECIDABLE, Verdict
from abliterate.studies.phases.activation import WHAT, Intervened
from abliterate.studies.phases.agreement import Agreement
from abliterate.studies.phases.claims import (
    LEVEL,
    NOT_SHOWN,
    continued_claims,
    harmless_claims,
    rate_of,
    shots_claims,
    turning_claims,
    where_claims,
)
from abliterate.studies.phases.labels import LabelledReply
from abliterate.studies.phases.onset import CurvePoint
from abliterate.studies.phases.outcomes import Outcomes
from abliterate.studies.phases.run import Phases, Turns

AGREE = 0.6
"""Kappa from which two labellers agree."""


def settings_of(found: Phases) -> dict[str, Any]:
    """Return what the study was asked, besides what all studies are."""
    asked = found.asked
    return {
        "tokens": asked.tokens, "settle": asked.settle, "enough": asked.enough, "layer": asked.layer,
        "ways": list(asked.ways), "alphas": list(asked.alphas), "against": found.before is not None,
    }  # fmt: skip


def results_of(found: Phases) -> dict[str, Any]:
    """Return the results: of the model, of its original where there is one, and what the edit changed."""
    results = turns_json(found.turns)
    results |= {
        "labellers": found.examples.to_json() if found.examples else None,
        "judge": found.judged.to_json() if found.judged else None,
        "vectors": found.detected.to_json() if found.detected else None,
        "effects": found.effects.to_json() if found.effects else None,
        "aligned": {way: one.to_json() for way, one in found.alignment.items()},
    }
    if found.before is not None:
        results["before"] = turns_json(found.before)
        results["changed"] = {
            name: {**one.edited.to_json(), "log_rank_p": one.log_rank_p} for name, one in found.compared.items()
        }
    return results


def turns_json(turns: Turns) -> dict[str, Any]:
    """Return outcomes, onsets and the phases of each greedy reply, without a word of it."""
    return {
        "outcomes": [one.to_json() for one in turns.outcomes.values()],
        "harmless": [one.to_json() for one in turns.harmless_outcomes.values()],
        "onset": {name: onset_json(turns, name) for name in turns.harmful},
        "transitions": {name: transitions_json(one.greedy) for name, one in turns.harmful.items()},
        "bars": {
            name: [bar(outcome, reply) for outcome, reply in zip(turns.outcomes[name].names, one.greedy, strict=True)]
            for name, one in turns.harmful.items()
        },
    }


def onset_json(turns: Turns, name: str) -> dict[str, Any]:
    """Return the curve of those that have not yet entered safety, and how many enter late."""
    onsets = turns.onsets(name)
    late = rate_of([one.after(LATE) for one in onsets])
    return {"replies": len(onsets), "late": late.to_json(), "curve": [point_json(one) for one in turns.curve(name)]}


def point_json(point: CurvePoint) -> dict[str, Any]:
    """Return one point of a curve."""
    return dict(vars(point))


def transitions_json(replies: Sequence[LabelledReply]) -> dict[str, Any]:
    """Return where replies turn from content to safety, and how many turns are interruptions."""
    turns = [one for reply in replies if not reply.cut.incoherent for one in reply.transitions]
    settled = [one for one in turns if one.settled]
    return {
        "to_safety": sorted(one.token for one in settled if one.target == "safety"),
        "from_safety": sorted(one.token for one in settled if one.target != "safety"),
        "interruptions": len(turns) - len(settled),
    }


def bar(outcome: str, reply: LabelledReply) -> dict[str, Any]:
    """Return one reply as a bar: its outcome and its phases, which end where it goes round in circles."""
    phases = [] if reply.cut.incoherent else [[one.concept, one.begin, one.end] for one in reply.phases]
    return {"outcome": outcome, "tokens": len(reply.cut.tokens), "phases": phases}


def controls_of(found: Phases) -> dict[str, Any]:
    """Return what stands beside the results: harmless phrases in the same forms, random vectors of equal length."""
    outcomes = found.turns.harmless_outcomes
    return {
        "false safety phases": {name: rate_of(one.safe).to_json() for name, one in outcomes.items()},
        "random vectors": found.effects.controls_json() if found.effects else [],
    }


def verdicts_of(found: Phases) -> tuple[Verdict, ...]:
    """Return the verdicts of all claims."""
    outcomes = found.outcomes
    greedy = {name: one.greedy for name, one in found.turns.harmful.items()}
    return (
        *refused_claims(outcomes),
        *continued_claims(outcomes),
        *where_claims(outcomes),
        *turning_claims(outcomes, greedy),
        *shots_claims(outcomes),
        *harmless_claims(found.turns.harmless_outcomes),
        *edit_claims(found),
        *labeller_claims(found),
        *vector_claims(found),
    )


def refused_claims(outcomes: Mapping[str, Outcomes]) -> list[Verdict]:
    """Return how many complete prompts are refused, for each form of them."""
    verdicts = []
    for one in outcomes.values():
        if one.form.sentence == "complete":
            rate = Rate(sum(one.refused), sum(one.coherent))
            low, high = rate.interval
            verdict = "mostly refused" if low > 0.5 else "mostly answered" if high < 0.5 else NOT_DECIDABLE
            apart = one.table["incoherent"].count
            verdicts.append(
                Verdict(f"{one.form.name} is refused", rate_words(rate), f"{apart} incoherent", verdict, "")
            )
    return verdicts


def labeller_claims(found: Phases) -> list[Verdict]:
    """Return how far the labellers agree beyond chance, each two of them."""
    pairs: list[tuple[str, Agreement]] = []
    if found.examples is not None:
        pairs.append(("by rules and by examples", found.examples.agreement))
    if found.judged is not None:
        pairs.append((f"by rules and by {found.judged.name}", found.judged.rules))
        if found.judged.examples is not None:
            pairs.append((f"by examples and by {found.judged.name}", found.judged.examples))
    return [
        Verdict(
            f"labels {who} agree",
            f"kappa {one.kappa:.2f} {interval_text(f'{one.low:.2f}', f'{one.high:.2f}')}",
            f"{one.segments} segments of the report part, chance taken out",
            "agree" if one.kappa >= AGREE else "do not agree",
            "",
        )
        for who, one in pairs
    ]


def made_words(own: Intervened) -> str:
    """Return what made the turns that a removal starts from, nothing where they came by themselves."""
    return "" if own.made_by is None else f"; of turns that adding {own.made_by} made"


def vector_claims(found: Phases) -> list[Verdict]:
    """Return what each safety vector does beside random ones, what foretells turns, and whether few neurons hold refusal."""
    verdicts = []
    for pair in found.effects.controlled if found.effects else ():
        own, best, test = pair.own, pair.best, pair.test
        beats = pair.beats and test.p < LEVEL
        harmless = "" if own.harmless is None else f"; harmless with safety {rate_words(own.harmless)}"
        verdicts.append(
            Verdict(
                f"{own.kind} {own.vector} at {own.alpha:g} {WHAT[own.kind]}",
                f"{rate_words(own.rate)}, {own.incoherent.count} incoherent{harmless}{made_words(own)}",
                f"best of {len(pair.random)} random: {rate_words(best.rate)}, McNemar p {test.p:.2g}",
                "beats random vectors" if beats else "does not beat random vectors",
                "",
            )
        )
    for way, one in found.alignment.items():
        auroc = one.auroc or 0.0
        verdicts.append(
            Verdict(
                f"the component along {way} rises before the text turns",
                f"AUROC {auroc:.2f} of turning within 8 tokens, {one.turns} turns",
                f"sentence ends of {one.ends} replies that do not turn",
                f"{one.lead} tokens before" if one.lead else NOT_SHOWN,
                "",
            )
        )
    neurons = found.detected.neurons if found.detected else None
    if neurons is not None:
        half = sorted(one.half for one in neurons.shuffled)
        verdicts.append(
            Verdict(
                "few neurons hold refusal",
                f"{neurons.found.half} of {neurons.count} carry half, Gini {neurons.found.gini:.2f}; score halved without "
                f"{neurons.halving or 'none of the numbers tried'}",
                f"shuffled labels: {half[0]} to {half[-1]} carry half; parts sum to within {neurons.check.error:.1%}",
                "sparse" if neurons.sparse else "not sparse",
                "",
            )
        )
    return verdicts


def edit_claims(found: Phases) -> list[Verdict]:
    """Return, for each form, what the edit did to refusals, to turns, and to when safety begins."""
    verdicts = []
    for name, one in found.compared.items():
        assert found.before is not None
        before, after = found.before.outcomes[name], found.outcomes[name]
        rates = [rate_of(side.refused) for side in (before, after)]
        turned = [sum(side.turned) for side in (before, after)]
        late = one.log_rank_p
        times = "too few replies" if late is None else f"log-rank p {late:.2g}"
        refused = one.edited.refused
        less = refused.p < LEVEL and refused.lost > refused.gained
        verdicts.append(
            Verdict(
                f"the edit takes refusals of {name} away",
                f"{rate_words(rates[0])} before, {rate_words(rates[1])} after; turns {turned[0]} before, {turned[1]} after",
                f"same phrases, McNemar p {refused.p:.2g}; when safety begins: {times}",
                "shown" if less else "not shown",
                f"Of {name} {percent(rates[0].value, 0)} were refused at once before the edit and {percent(rates[1].value, 0)} after it; "
                f"{turned[0]} replies turned before it, {turned[1]} after.",
            )
        )
    return verdicts
