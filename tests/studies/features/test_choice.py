"""Features for a concept: by words against lists of equal frequency, by data, by number."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.studies.features.choice import CONCEPTS, Choice, best, read_ids, score_words


def test_the_feature_of_a_concept_s_words_is_found_and_no_other() -> None:
    drawn = torch.Generator().manual_seed(1)
    terms = 0.01 * torch.randn(50, 300, generator=drawn)
    terms[7, [10, 60, 200, 250]] += 0.2
    found = score_words(terms, [10, 60, 200, 250], ["a", "b", "c", "d"], draws=200)
    assert float(found.p[7]) < 0.01
    assert int((found.p < 0.01).sum()) == 1
    assert best(found.scores, 1) == (7,)


def test_p_values_hold_for_all_rows_together() -> None:
    small = 0
    for seed in range(20):
        terms = torch.randn(60, 200, generator=torch.Generator().manual_seed(seed))
        small += bool((score_words(terms, [3, 50, 90], ["a", "b", "c"], draws=100, seed=seed).p < 0.05).any())
    assert small <= 4  # of 20 with no effect; uncorrected it would be nearly all


def test_both_ways_and_their_overlap() -> None:
    choice = Choice((1, 2), "words", (1, 2), (2, 5), None, torch.tensor([0.5, 0.6, 0.9, 0.1, torch.nan, 0.8]))
    assert choice.overlap == 1
    held = choice.to_json(list("abcdef"))
    assert held["chosen"] == ["b", "c"]
    assert [one["row"] for one in held["rows"]] == ["b", "c", "f"]
    assert held["rows"][1]["by_data"]
    assert best(choice.aurocs, 3) == (2, 5, 1)
    assert 4 not in best(choice.aurocs, 6)  # NaN is no score


def test_numbers_of_features_are_read_or_refused() -> None:
    assert read_ids("ids:3,17,3", 20) == (3, 17)
    for text in ("ids:", "ids:20", "ids:x"):
        with pytest.raises(InputError, match="give numbers of features from 0 to 19"):
            read_ids(text, 20)
    assert len(CONCEPTS["safety"]) >= 15
