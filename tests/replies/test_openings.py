"""Openings of refusals, from the model's own."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.errors import InputError, NoRefusalsError
from abliterate.replies.openings import Opening, find_openings

tokens = st.integers(0, 3)
replies = st.lists(st.lists(tokens, min_size=1, max_size=6), min_size=1, max_size=30)


def opens(reply: Sequence[int], openings: Sequence[Opening]) -> bool:
    return any(tuple(reply[: len(opening)]) == opening for opening in openings)


@given(replies, replies, st.integers(1, 5), st.floats(0.05, 1.0))
def test_openings_cover_and_are_prefix_free(
    refused: list[list[int]], answered: list[list[int]], max_length: int, coverage: float
) -> None:
    openings = find_openings(refused, answered, max_length, coverage)
    assert sum(opens(reply, openings) for reply in refused) >= coverage * len(refused) - 1e-9
    for opening in openings:
        assert 1 <= len(opening) <= max_length
        assert any(tuple(reply[: len(opening)]) == opening for reply in refused)
        assert not any(other != opening and other[: len(opening)] == opening for other in openings)


@given(replies, replies, st.floats(0.05, 1.0))
def test_fewest_openings(refused: list[list[int]], answered: list[list[int]], coverage: float) -> None:
    openings = find_openings(refused, answered, coverage=coverage)
    counts = [sum(opens(reply, [opening]) for reply in refused) for opening in openings]
    assert counts == sorted(counts, reverse=True), "the most frequent first"
    assert sum(counts[:-1]) < coverage * len(refused) - 1e-9, "one fewer is too few"


@given(replies, replies, st.randoms(use_true_random=False))
def test_order_does_not_matter(refused: list[list[int]], answered: list[list[int]], chance: random.Random) -> None:
    before = find_openings(refused, answered)
    assert find_openings(refused, answered) == before
    chance.shuffle(refused)
    chance.shuffle(answered)
    assert find_openings(refused, answered) == before


@given(replies)
def test_without_answers_one_token_is_enough(refused: list[list[int]]) -> None:
    assert all(len(opening) == 1 for opening in find_openings(refused, [], coverage=1.0))


def test_openings_grow_until_they_identify_refusals() -> None:
    refused = [[1, 2, 3, 9]] * 8 + [[5, 6]] * 2
    assert find_openings(refused, []) == ((1,), (5,))
    assert find_openings(refused, [[1, 2, 4]] * 2) == ((1, 2, 3), (5,))
    assert find_openings(refused, [[1, 2, 4]] * 2, coverage=0.8) == ((1, 2, 3),)
    assert find_openings(refused, [[1, 2, 3, 9]] * 9, max_length=2) == ((1, 2), (5,)), "none identifies: the longest"
    assert find_openings([[1]] * 9, [[1]]) == ((1,),), "nine in ten are enough"
    assert find_openings([[1], [1, 2], [1, 2]], [[1]] * 9) == ((1,),), "the longer one is dropped"


def test_ties_go_by_token_ids() -> None:
    assert find_openings([[7, 1], [3, 1], [5, 1]], [], coverage=1.0) == ((3,), (5,), (7,))


def test_a_share_of_the_replies_is_not_rounded_up() -> None:
    refused = [[1]] * 55 + [[token] for token in range(2, 47)]
    assert find_openings(refused, [], coverage=0.55) == ((1,),)


@pytest.mark.parametrize("refused", [[], [[]]])
def test_a_model_that_never_refuses(refused: list[list[int]]) -> None:
    with pytest.raises(NoRefusalsError, match=r"the model never refuses.*no direction to find"):
        find_openings(refused, [[1, 2], [3]])


@pytest.mark.parametrize(("max_length", "coverage"), [(0, 0.9), (4, 0.0), (4, 1.1)])
def test_out_of_range(max_length: int, coverage: float) -> None:
    with pytest.raises(InputError, match="change max_length or coverage"):
        find_openings([[1]], [], max_length, coverage)
