"""Examples that a search learns from."""

from __future__ import annotations

import pytest

from abliterate.search.examples import DivergencePoint, OpenThoughts, Transcript, divergence_point, hard_examples


@pytest.mark.parametrize(
    ("reply", "others", "shared"),
    [
        ((1, 2, 3), [], 0),
        ((1, 2, 3), [(4, 5)], 0),
        ((1, 2, 3), [(1, 5), (1, 2, 9)], 2),
        ((1, 2, 3), [(1, 2, 3, 4)], 2),  # one token of its own is left
        ((1, 2, 3), [(1,)], 1),
        (tuple(range(40)), [tuple(range(30))], 12),
    ],
)
def test_where_a_refusal_parts_from_the_answers(
    reply: tuple[int, ...], others: list[tuple[int, ...]], shared: int
) -> None:
    assert divergence_point(reply, others) == shared


def test_places_gather_the_declining_tokens_of_one_prompt() -> None:
    transcript = Transcript([(10, 11), (12,)])
    for reply, refused in (((1, 2), True), ((3, 4), True), ((1, 7), False), ((), True), ((1, 2), True)):
        transcript.add(0, reply, refused)
    transcript.add(1, (5,), False)
    assert transcript.at_risk == [0]
    assert transcript.places() == [DivergencePoint((10, 11, 1), (2,)), DivergencePoint((10, 11), (3,))]


def test_hard_examples_are_the_worst_and_a_spread_of_the_rest() -> None:
    losses = [float(number) for number in range(100)]
    chosen = hard_examples(losses, 20)
    assert chosen[:10] == list(range(99, 89, -1))
    assert len(set(chosen)) == 20
    assert max(chosen[10:]) == 89
    assert min(chosen[10:]) < 15
    assert sorted(hard_examples([3.0, 1.0, 2.0], 20)) == [0, 1, 2]


def test_a_place_inside_of_a_thought_may_lie_behind_all_that_repeats_the_request() -> None:
    asked = tuple(range(20))
    transcript = Transcript([(99,)], thought_room=48)
    transcript.add(0, (*asked, 30, 31), True)
    transcript.add(0, (*asked, 40, 41), False)
    assert transcript.places() == [DivergencePoint((99, *asked), (30,))]


def test_a_thought_is_unfinished_where_its_tag_is_missing_and_only_of_a_prompt_that_opens_one() -> None:
    thoughts = OpenThoughts({(1, 2): "</think>"}, 8)
    assert thoughts.unfinished((1, 2), "They ask")
    assert not thoughts.unfinished((1, 2), "They ask </think> No.")
    assert not thoughts.unfinished((3,), "No.")
