"""The sections of the page, in its order: a section is a file, and a line here."""

from __future__ import annotations

from abliterate.report.sections import (
    activations,
    clusters,
    evaluation,
    features,
    figures,
    phases,
    positions,
    proof,
    repeat,
    replies,
    search,
    selection,
    separation,
    strengths,
    studies,
    thoughts,
)
from abliterate.report.sections.section import Section

STUDY_SECTIONS: tuple[Section, ...] = (
    studies.SECTION,
    positions.SECTION,
    phases.SECTION,
    clusters.SECTION,
    features.SECTION,
)
"""Those of studies: what all conclude, then a section for each; on a page of their own where nothing was edited."""

SECTIONS: tuple[Section, ...] = (
    figures.SECTION,
    evaluation.SECTION,
    separation.SECTION,
    activations.SECTION,
    thoughts.SECTION,
    selection.SECTION,
    strengths.SECTION,
    search.SECTION,
    *STUDY_SECTIONS,
    replies.SECTION,
    proof.SECTION,
    repeat.SECTION,
)
