"""The sections of the page, in its order: a section is a file, and a line here."""

from __future__ import annotations

from abliterate.report.sections import (
    activations,
    evaluation,
    figures,
    proof,
    repeat,
    replies,
    search,
    selection,
    separation,
    strengths,
)
from abliterate.report.sections.section import Section

SECTIONS: tuple[Section, ...] = (
    figures.SECTION,
    evaluation.SECTION,
    separation.SECTION,
    activations.SECTION,
    selection.SECTION,
    strengths.SECTION,
    search.SECTION,
    replies.SECTION,
    proof.SECTION,
    repeat.SECTION,
)
