"""`positions.json`: results, controls, and a verdict for each claim."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from abliterate.directions.candidates import MAX_KL
from abliterate.evaluation.figure_names import interval_text, mean_text, percent, rate_words
from abliterate.evaluation.paired import Changed, paired_changes
from abliterate.evaluation.statistics import Mean, Rate
from abliterate.prompts.forms import first_pairs
from abliterate.studies.common import NOT_DECIDABLE, Verdict, holm
from abliterate.studies.positions.cells import REFUSED, Cell
from abliterate.studies.positions.edits import Edits
from abliterate.studies.positions.listen import Heard
from abliterate.studies.positions.method import LOCATIONS, NONE, ROBUST, UNMEASURED
from abliterate.studies.positions.run import Positions
from abliterate.studies.positions.similarity import Grouped
from abliterate.studies.positions.swept import tally

LEVEL = 0.05


def settings_of(found: Positions) -> dict[str, Any]:
    """Return what the study was asked, besides what all studies are."""
    asked = found.asked
    return {
        "layers": asked.layers, "layer": found.layer, "tokens": asked.tokens, "alphas": list(asked.alphas),
        "enough": asked.enough, "look_alikes": len(asked.look_alikes), "against": sorted(asked.against),
    }  # fmt: skip


def results_of(found: Positions) -> dict[str, Any]:
    """Return the results: starts, vectors, similarity, sweeps, components, kinds of refusals."""
    return {
        "starts": [starts_row(one) for one in found.heard.values()],
        "pairs": [pair_json(*pair) for pair in compared_forms(found.heard)],
        "cells": [cell_json(cell, found.layer) for cell in found.cells.values()],
        "similarity": {str(layer): one.to_json() for layer, one in found.similar.items()},
        "groups": {
            str(layer): {name: one.to_json() if one else None for name, one in groups.items()}
            for layer, groups in found.groups.items()
        },
        "kinds": [one.to_json() for one in found.kinds.values() if one],
        "sweeps": [without_controls(one.to_json()) for one in found.swept.values()],
        "components": [one.to_json() for one in found.tokenwise.values()],
        "edits": found.edits.to_json() if found.edits else None,
    }


def controls_of(found: Positions) -> dict[str, Any]:
    """Return what random vectors and those of shuffled labels do, by the vector that they stand beside, and in edits."""
    controls = {name: one.to_json()["controls"] for name, one in found.swept.items()}
    return {**controls, "edits": [one.to_json() for one in found.edits.random] if found.edits else []}


def without_controls(sweep: Mapping[str, Any]) -> dict[str, Any]:
    """Return a sweep without what `controls` holds."""
    return {name: value for name, value in sweep.items() if name != "controls"}


def starts_row(heard: Heard) -> dict[str, Any]:
    """Return how many harmful prompts of a form are refused from each location, and how many harmless ones anywhere."""
    starts, total = heard.starts, len(heard.starts)
    harmless = [case.greedy for case in heard.harmless if case.greedy]
    first = [case.share for case in heard.harmful if case.samples]
    return {
        "form": heard.form.name, "where": heard.form.where, "sentence": heard.form.sentence,
        "starts": {
            str(one or "never"): Rate(sum(start == one for start in starts), total).to_json() for one in (*LOCATIONS, None)
        },
        "harmless": Rate(sum(one.start is not None for one in harmless), len(harmless)).to_json(),
        "sampled_from_1": sum(first) / len(first) if first else None,
    }  # fmt: skip


def compared_forms(heard: Mapping[str, Heard]) -> list[tuple[str, str, str, Changed]]:
    """Return, for each place that a phrase is put, the first finished and the first unfinished form, and McNemar's test.

    `gained` are phrases that only the unfinished form refuses from the first location.
    """
    pairs = []
    for complete, incomplete in first_pairs(one.form for one in heard.values()):
        refused = [[start == 1 for start in heard[form.name].starts] for form in (complete, incomplete)]
        pairs.append((complete.where, complete.name, incomplete.name, paired_changes(*refused)))
    return pairs


def pair_json(where: str, complete: str, incomplete: str, changed: Changed) -> dict[str, Any]:
    """Return one pair of forms."""
    return {"where": where, "complete": complete, "incomplete": incomplete, **changed.to_json()}


def cell_json(cell: Cell, layer: int) -> dict[str, Any]:
    """Return what a vector was made of, and why there is none where there is none."""
    refused = sum(cell.labels)
    about: dict[str, Any] = {
        "vector": cell.name, "form": cell.form, "location": cell.location, "kind": cell.kind, "empty": cell.empty,
        "first": refused, "second": len(cell.labels) - refused, "prompts": len(set(cell.prompts)),
    }  # fmt: skip
    if cell.empty is None and any(cell.depths):
        own = layer if layer in cell.layers else cell.layers[0]
        vector, equal = cell.vector(own), cell.at_equal_depth(own)
        about["mean_depth"] = sum(cell.depths) / len(cell.depths)
        about["cosine_at_equal_depth"] = float(vector @ equal / (vector.norm() * equal.norm()))
    return about


def verdicts_of(found: Positions) -> tuple[Verdict, ...]:
    """Return the verdicts of all claims, in the order of the study's steps."""
    return (
        *start_verdicts(found),
        *later_verdicts(found),
        *group_verdicts(found),
        *sweep_verdicts(found),
        *edit_verdicts(found.edits),
        *component_verdicts(found),
        *kind_verdicts(found),
    )


def start_verdicts(found: Positions) -> list[Verdict]:
    """Return whether unfinished sentences are refused from the first location less often than finished ones."""
    pairs = compared_forms(found.heard)
    adjusted = holm([changed.p for *_, changed in pairs])
    verdicts = []
    for (where, complete, incomplete, changed), p in zip(pairs, adjusted, strict=True):
        rates = [from_first(found.heard[name]) for name in (complete, incomplete)]
        differs = p < LEVEL
        verdict = "no difference shown" if not differs else "fewer" if changed.lost > changed.gained else "more"
        verdicts.append(
            Verdict(
                f"{where}: {incomplete} is refused at once less often than {complete}",
                f"{rate_words(rates[1])} against {rate_words(rates[0])}",
                f"same phrases, McNemar p {p:.2g} (Holm)",
                verdict,
                f"Where the phrase is in a {where} text, the unfinished form {incomplete} is refused at once in "
                f"{percent(rates[1].value, 0)} of {rates[1].total} and the finished {complete} in {percent(rates[0].value, 0)}.",
            )
        )
    return verdicts


def from_first(heard: Heard) -> Rate:
    """Return how many harmful prompts of a form are refused from the first location."""
    return Rate(sum(start == 1 for start in heard.starts), len(heard.starts))


def later_verdicts(found: Positions) -> list[Verdict]:
    """Return whether replies refuse at all once they have begun to answer."""
    later = {name: sum(start in LOCATIONS[1:] for start in one.starts) for name, one in found.heard.items()}
    open_to = sum(len(one.starts) - from_first(one).count for one in found.heard.values())
    rate = Rate(sum(later.values()), open_to)
    if not rate.total:
        return []
    vectors = [cell.name for cell in found.cells.values() if cell.location > 1 and cell.empty is None]
    most = max(later, key=lambda name: later[name])
    return [
        Verdict(
            "replies that begin to answer turn to refusing at 2 or 3",
            rate_words(rate),
            f"most with {most}: {later[most]} of {len(found.heard[most].starts)}",
            "enough for a vector" if vectors else "too few for a vector",
            f"Of replies that do not refuse at once {percent(rate.value, 1)} refuse after the first or the second sentence"
            + (
                f"; there are vectors of it: {', '.join(vectors)}."
                if vectors
                else ", too few in any form for a vector of it."
            ),
        )
    ]


def group_verdicts(found: Positions) -> list[Verdict]:
    """Return whether vectors of like forms are more alike than others, over layers."""
    verdicts = []
    names = list(next(iter(found.groups.values()), {}))
    for name in names:
        by_layer: dict[int, Grouped] = {
            layer: one for layer, groups in found.groups.items() if (one := groups.get(name)) is not None
        }
        if not by_layer:
            continue
        adjusted = dict(zip(by_layer, holm([one.p for one in by_layer.values()]), strict=True))
        shown = [layer for layer, p in adjusted.items() if p < LEVEL]
        kind, attribute = name.split(", ")
        layer = found.layer if found.layer in by_layer else next(iter(by_layer))
        one = by_layer[layer]
        what = "refused minus answered" if kind == REFUSED else "harmful minus harmless"
        verdicts.append(
            Verdict(
                f"vectors ({what}) are more alike within the same {attribute}",
                f"mean cosine {one.within:.2f} within, {one.between:.2f} between, layer {layer}",
                f"permuted forms, p {adjusted[layer]:.2g} (Holm over {len(by_layer)} layers)",
                f"shown at {len(shown)} of {len(by_layer)} layers" if shown else "not shown",
                f"Vectors of {what} prompts whose forms have the same {attribute} are "
                + ("more alike than others" if shown else "not shown to be more alike than others")
                + f" ({one.within:.2f} against {one.between:.2f} at layer {layer}).",
            )
        )
    return verdicts


def sweep_verdicts(found: Positions) -> list[Verdict]:
    """Return how many vectors are robust, and what each does beside its controls."""
    if not found.swept:
        return []
    counts = tally(found.swept)
    still = "; ".join(f"{kind} {rate_words(still_of(found, kind))}" for kind in ("random", "shuffled"))
    verdicts = [
        Verdict(
            "there are vectors whose effect carries over to other forms",
            ", ".join(f"{count} {name}" for name, count in sorted(counts.items())),
            f"of equal length, none in: {still}",
            "shown" if counts[ROBUST] else "not shown",
            f"{counts[ROBUST]} of {len(found.swept)} vectors raise refusal when they are added and lower it when they are taken "
            "away, on their own form and on most others.",
        )
    ]
    for name, one in found.swept.items():
        random = max((abs(curve.slope) for curve in one.controls["random"]), default=0.0)
        largest = 1.0 if 1.0 in one.own.changes else max(one.own.changes)
        up, down = (
            one.own.gain(largest),
            one.own.gain(-largest if -largest in one.own.changes else min(one.own.changes)),
        )
        harm = one.controls.get("harm", ())
        harm_words = f", harm {harm[0].slope:.2f}" if harm else ""
        robust = [form for form, verdict in one.verdicts.items() if verdict == ROBUST]
        verdicts.append(
            Verdict(
                f"{name} at layer {one.layer} moves refusal both ways",
                f"G(1) {mean_words(up)}, G(-1) {mean_words(down)}",
                f"half the difference {one.own.slope:.2f}; at equal length random at most {random:.2f}{harm_words}; "
                f"|alpha| up to {one.coherent:g}",
                f"{'robust' if one.robust else one.verdict}; robust on {', '.join(robust) or 'no form'}",
                "",
            )
        )
    return verdicts


def edit_verdicts(edits: Edits | None) -> list[Verdict]:
    """Return which vector is best to edit with, and what it leaves of refusals beside the best random one."""
    claim = "a vector is best to edit with"
    if edits is None or not edits.rows:
        return []
    best, random, test = edits.best, edits.best_random, edits.test
    if best is None:
        least = min(one.select_kl for one in edits.rows)
        return [
            Verdict(
                claim,
                f"KL {least:.2g} at least",
                f"limit {MAX_KL:g}, select part",
                "none",
                f"Every vector moves the first token of harmless replies by {MAX_KL:g} nats or more: none is to be edited with.",
            )
        ]
    if random is None or test is None:
        return [Verdict(claim, best.name, "no harmful prompt of the report part is refused", NOT_DECIDABLE, "")]
    beats = test.p < LEVEL and test.lost > test.gained
    return [
        Verdict(
            claim,
            f"{best.name} at layer {best.layer} leaves {rate_words(best.left)} of refusals, KL {mean_text(best.kl.value, *best.kl.interval)}",
            f"best of {len(edits.random)} random leaves {rate_words(random.left)}, McNemar p {test.p:.2g}",
            f"{best.name} at layer {best.layer}" if beats else "none beats random vectors",
            f"Taking {best.name} out leaves {best.left.count} of {best.left.total} refusals over all forms: edit with "
            f"{best.flags}."
            if beats
            else "No vector takes more refusals away than random ones do.",
        )
    ]


def still_of(found: Positions, kind: str) -> Rate:
    """Return how many control vectors of a kind do nothing, of those of which anything can be measured."""
    verdicts = [verdict for one in found.swept.values() for verdict in one.control_verdicts(kind)]
    measured = [verdict for verdict in verdicts if verdict != UNMEASURED]
    return Rate(measured.count(NONE), len(measured))


def component_verdicts(found: Positions) -> list[Verdict]:
    """Return how far harmless prompts activate each vector."""
    return [
        Verdict(
            f"harmless prompts activate {name} in part",
            f"{rate_words(one.harmless_above)} of them above the threshold",
            f"AUROC of harmful against harmless {one.auroc:.2f} {interval_text(*(f'{end:.2f}' for end in one.auroc_interval))}",
            "shown" if one.harmless_above.interval[0] > LEVEL else "not shown",
            "",
        )
        for name, one in found.tokenwise.items()
    ]


def kind_verdicts(found: Positions) -> list[Verdict]:
    """Return whether states before refusals of the same kind lie together."""
    verdicts = []
    for location, one in found.kinds.items():
        if one is None or one.test is None:
            continue
        counts = ", ".join(f"{count} {name}" for name, count in sorted(one.counts.items(), key=lambda item: -item[1]))
        shown = one.test.p < LEVEL
        verdicts.append(
            Verdict(
                f"refusals of one kind begin from like states at {location}",
                f"mean cosine {one.test.within:.2f} within, {one.test.between:.2f} between, silhouette {one.silhouette:.2f}",
                f"permuted kinds, p {one.test.p:.2g}; {counts}",
                "shown" if shown else "not shown",
                f"States before refusals of the same kind (location {location}, layer {one.layer}) are "
                + ("more alike than others." if shown else "not shown to be more alike than others."),
            )
        )
    return verdicts


def mean_words(mean: Mean) -> str:
    """Return a mean change as `+1.20 [+1.00, +1.40]`."""
    low, high = mean.interval
    return f"{mean.value:+.2f} {interval_text(f'{low:+.2f}', f'{high:+.2f}')}"
