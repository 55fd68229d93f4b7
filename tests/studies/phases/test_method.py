"""Phases and transitions: planted replies, and laws."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.replies.concepts import CONTENT, NEUTRAL, SAFETY
from abliterate.studies.phases.method import (
    EXCLUDES,
    Outcome,
    Segment,
    Transition,
    onset_of,
    outcome_of,
    phases_of,
    refuses,
    transitions_of,
)

LETTERS = {"s": SAFETY, "c": CONTENT, "n": NEUTRAL}
LABELS = st.text("scn", max_size=12)


def segments(labels: str, tokens: int = 5) -> list[Segment]:
    """Segments of so many tokens each, by the first letters of their concepts."""
    return [Segment(LETTERS[one], tokens * place, tokens * (place + 1)) for place, one in enumerate(labels)]


def turns(labels: str, settle: int = 2) -> list[tuple[int, str, bool]]:
    found = transitions_of(phases_of(segments(labels)), settle)
    return [(one.token, one.source[0] + one.target[0], one.settled) for one in found]


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ("", []),
        ("ccc", []),
        ("ccss", [(10, "cs", True)]),
        ("ccs", [(10, "cs", True)]),  # the reply ends: nothing came back
        ("ccsc", [(10, "cs", False), (15, "sc", True)]),  # an interruption, and then content has settled
        ("ccssc", [(10, "cs", True), (20, "sc", True)]),
        ("ccsnc", [(10, "cs", True)]),  # back after two segments, and not right where safety ended
        ("ccns", []),  # content ended before safety began
        ("ssc", [(10, "sc", True)]),
        ("csn", [(5, "cs", True)]),
    ],
)
def test_planted_turns_are_found_at_their_token(labels: str, expected: list[tuple[int, str, bool]]) -> None:
    assert turns(labels) == expected


def test_how_long_content_must_stay_away_is_the_caller_s() -> None:
    assert turns("ccsnc", settle=3)[0] == (10, "cs", False)
    assert turns("ccsc", settle=1)[0] == (10, "cs", True)


@given(LABELS)
def test_phases_partition_the_reply(labels: str) -> None:
    own = segments(labels)
    phases = phases_of(own)
    assert [token for phase in phases for token in range(phase.begin, phase.end)] == list(range(5 * len(labels)))
    assert sum(phase.segments for phase in phases) == len(own)
    assert all(before.concept != after.concept for before, after in pairwise(phases))


@given(LABELS)
def test_renaming_concepts_commutes(labels: str) -> None:
    names = {SAFETY: "care", CONTENT: "help", NEUTRAL: "rest"}
    renamed = [Segment(names[one.concept], one.begin, one.end) for one in segments(labels)]
    excludes = {names[name]: frozenset(names[other] for other in others) for name, others in EXCLUDES.items()}
    expected = [
        Transition(one.token, names[one.source], names[one.target], one.settled)
        for one in transitions_of(phases_of(segments(labels)))
    ]
    assert list(transitions_of(phases_of(renamed), excludes=excludes)) == expected


@given(LABELS, st.integers(1, 4))
def test_appending_neutral_adds_no_transition(labels: str, count: int) -> None:
    assert turns(labels + "n" * count) == turns(labels)


@given(LABELS, LABELS)
def test_a_turn_hangs_on_nothing_before_its_source(before: str, after: str) -> None:
    tail = turns("cs" + after)[0]
    assert (tail[0] + 5 * len(before), *tail[1:]) in turns(before + "cs" + after)


@pytest.mark.parametrize("ends", [[(0, 5), (6, 9)], [(0, 5), (4, 9)], [(3, 3)], [(4, 2)]])
def test_segments_that_are_none_are_refused(ends: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="token"):
        phases_of([Segment(SAFETY, *one) for one in ends])


def test_a_phase_has_the_mean_score_of_its_segments() -> None:
    (phase,) = phases_of([Segment(SAFETY, 0, 2, 0.5), Segment(SAFETY, 2, 9, 1.0)])
    assert (phase.begin, phase.end, phase.score, phase.segments) == (0, 9, 0.75, 2)


def test_onset_is_the_first_token_of_the_concept() -> None:
    phases = phases_of(segments("nccs"))
    assert (onset_of(phases), onset_of(phases, CONTENT), onset_of(phases_of(segments("nn")))) == (15, 5, None)


@pytest.mark.parametrize(
    ("labels", "ends", "refused"),
    [("s", [5], True), ("cs", [5, 10], True), ("ccs", [5, 10, 15], False), ("cn", [5, 10], False), ("", [], False)],
)
def test_a_complete_prompt_is_refused_within_two_sentences(labels: str, ends: list[int], refused: bool) -> None:
    assert refuses(phases_of(segments(labels)), ends) is refused


@pytest.mark.parametrize(
    ("labels", "fill_end", "outcome"),
    [
        ("cs", 5, Outcome(CONTENT, True)),
        ("cc", 5, Outcome(CONTENT, False)),
        ("ss", 5, Outcome(SAFETY, False)),  # safety goes on, it does not begin
        ("scs", 5, Outcome(SAFETY, True)),
        ("nns", 5, Outcome(NEUTRAL, True)),
        ("nccc", 20, Outcome(CONTENT, False)),
        ("sc", 10, Outcome(SAFETY, False)),  # of two the first
    ],
)
def test_what_became_of_a_sentence_that_was_begun(labels: str, fill_end: int, outcome: Outcome) -> None:
    assert outcome_of(phases_of(segments(labels)), fill_end) == outcome


def test_a_fill_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing fills"):
        outcome_of(phases_of(segments("cc")), 0)
