"""The sections of the page, a line each; each says its words to the template and its numbers to the script."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from abliterate.report.load import Gathered
from abliterate.report.sections import activations, evaluation, front, measures, proof, replies, strengths, summary

Part = Callable[[Gathered], Mapping[str, Any]]

SECTIONS: Mapping[str, tuple[Part, Part]] = {
    "summary": (summary.words, summary.numbers),
    "measures": (measures.words, measures.numbers),
    "strengths": (strengths.words, strengths.numbers),
    "front": (front.words, front.numbers),
    "proof": (proof.words, proof.numbers),
    "activations": (activations.words, activations.numbers),
    "replies": (replies.words, replies.numbers),
    "evaluation": (evaluation.words, evaluation.numbers),
}


def plain_words(records: Gathered) -> dict[str, Any]:
    """Return what the template fills in; a section without data is None."""
    return {name: value for words, _ in SECTIONS.values() for name, value in words(records).items()}


def number_rows(records: Gathered) -> dict[str, Any]:
    """Return what the page's script draws and lists."""
    return {name: value for _, numbers in SECTIONS.values() for name, value in numbers(records).items()}
