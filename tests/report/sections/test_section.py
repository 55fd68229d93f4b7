"""A section without plots gives the script nothing."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections import SECTIONS, STUDY_SECTIONS
from abliterate.report.sections.section import no_numbers


def test_a_section_without_plots_has_no_numbers(whole: Gathered) -> None:
    assert no_numbers(whole) == {}


def test_sections_are_found_by_their_names(whole: Gathered) -> None:
    names = [section.name for section in SECTIONS]
    assert len(set(names)) == len(names)
    for section in SECTIONS:
        assert f'id="{section.name}"' in section.markup
        assert (section.words(whole) is not None) == (section not in STUDY_SECTIONS)
