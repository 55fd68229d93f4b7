"""`features.json` of an explanation: every row with its words, tokens and rates, controls, and a verdict for each claim."""

from __future__ import annotations

from typing import Any

from abliterate.errors import shortened
from abliterate.evaluation.figure_names import mean_text
from abliterate.evaluation.statistics import Mean, json_number
from abliterate.studies.common import Verdict
from abliterate.studies.features.method import NEAREST, PRIOR, PUBLISHED, RULES
from abliterate.studies.features.run import Features

PROMPT = 100
"""Letters of a prompt that a record holds."""


def settings_of(found: Features, temperature: float) -> dict[str, Any]:
    """Return what was asked."""
    layers = sorted({one for one in found.rows.layers if one is not None})
    return {
        "rows": found.rows.source, "competing": len(found.rows), "dead": len(found.dead), "layers": layers,
        "rule": found.explained.rule, "temperature": temperature, "vocabulary": len(found.explained.vocabulary),
        "corpus": list(found.corpus.public), "texts": len(found.corpus),
    }  # fmt: skip


def results_of(found: Features) -> dict[str, Any]:
    """Return the rows in order, and how the lists of each rule use the vocabulary."""
    explained = found.explained
    return {
        "kind": "explain",
        "rows": [row_json(found, place) for place in found.order],
        "information": explained.information,
        "spread": {rule: explained.spread(rule).to_json() for rule in RULES},
        "shared": {rule: explained.shared(PRIOR, rule) for rule in (PUBLISHED, NEAREST)},
        "tested": None if found.tested is None else found.tested.to_json(),
    }


def row_json(found: Features, place: int) -> dict[str, Any]:
    """Return one row."""
    explained = found.explained
    return {
        "row": found.rows.names[place], "layer": found.rows.layers[place],
        **({"name": found.names[place]} if found.names else {}),
        "words": list(explained.words[place]),
        **{rule: list(explained.by(rule)[place]) for rule in (PUBLISHED, NEAREST)},
        "tokens": list(found.top_tokens[place]),
        "rate": None if found.activity is None else float(found.activity.rates[place]),
        "texts_rate": None if found.activity is None else float((found.strongest[:, place] > 0).float().mean()),
        "word_auroc": None if found.tested is None else json_number(float(found.tested.by_feature[place])),
        "refused_auroc": {name: json_number(float(values[place])) for name, values in found.refused.items()},
        "texts": [shortened(one, PROMPT, quoted=False) for one in found.top_texts(place)],
    }  # fmt: skip


def controls_of(found: Features) -> dict[str, Any]:
    """Return what words are held against."""
    return {} if found.tested is None else {"tested": found.tested.to_json()}


def verdicts_of(found: Features) -> list[Verdict]:
    """Return whether the words are right, and what the published rule picks instead."""
    verdicts = []
    explained, tested = found.explained, found.tested
    if tested is not None and tested.judged:
        words, random = tested.scores["words"], tested.scores["random words"]
        verdicts.append(
            Verdict(
                "holding a row's words tells that it fires, on held-out texts",
                f"AUROC {in_words(words)} over {tested.judged} rows, {tested.texts} texts",
                f"random words of equal frequency {in_words(random)}; top tokens {in_words(tested.scores['top tokens'])}",
                "shown" if tested.apart else "not shown",
                f"A row's words tell where it fires with an AUROC of {words.value:.2f}, random words of equal frequency with "
                f"{random.value:.2f}, the tokens at which it is strongest with {tested.scores['top tokens'].value:.2f}.",
            )
        )
    if len(found.rows) > 1:
        share = explained.shared(PUBLISHED, NEAREST)
        own = explained.shared(PRIOR, NEAREST)
        verdicts.append(
            Verdict(
                "the published rule picks words that are near",
                f"{share:.0%} of its words are among the nearest",
                f"with the prior kept {own:.0%}",
                "no" if share < own / 2 else "yes",
                f"Of the words by the published rule {share:.0%} are among the words nearest to a row, with the prior kept "
                f"{own:.0%} ({len(found.rows)} rows compete).",
            )
        )
    return verdicts


def in_words(mean: Mean) -> str:
    """Return a mean with its interval."""
    return mean_text(mean.value, *mean.interval, digits=2)
