"""Words by mutual information: against the formula, on planted rows, and by the published rule that picks others."""

from __future__ import annotations

import math

import pytest
import torch

from abliterate.errors import InputError
from abliterate.studies.features import method
from abliterate.studies.features.method import NEAREST, PRIOR, PUBLISHED, RULES, Competition, spread_of

WORDS, WIDE = 400, 64


def planted(rows: int = 100, noise: float = 0.3) -> tuple[Competition, torch.Tensor]:
    """Rows that are the vector of a word each and noise, and which word that is."""
    drawn = torch.Generator().manual_seed(3)
    words = torch.randn(WORDS, WIDE, generator=drawn)
    own = torch.randperm(WORDS, generator=drawn)[:rows]
    behind = words[own] + noise * torch.randn(rows, WIDE, generator=drawn)
    return Competition(math.sqrt(WIDE) * torch.nn.functional.normalize(behind, dim=1), words / WIDE**0.5), own


def test_terms_are_those_of_the_formula(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = planted(7)
    monkeypatch.setattr("abliterate.studies.features.method.AT_ONCE", 3)  # rows in parts change nothing
    u = found.behind @ found.words.T
    of_word, of_row = u.softmax(1), u.softmax(0)
    expected = of_word * (of_row / (1 / 7)).log()
    assert torch.allclose(torch.cat(list(found.terms())), expected, atol=1e-5)
    assert torch.allclose(torch.cat(list(found.terms(PUBLISHED))), of_word * of_row.log(), atol=1e-5)
    assert found.information() == pytest.approx(float(expected.sum()) / 7, rel=1e-4)
    assert 0 < found.information() <= math.log(7) + 1e-6
    assert torch.allclose(found.scores([5, 2]), expected[:, [5, 2]], atol=1e-5)


def test_a_planted_word_is_first_and_by_the_published_rule_hardly_ever() -> None:
    found, own = planted()
    assert (found.best(1)[:, 0] == own).float().mean() >= 0.95
    assert (found.best(1, PUBLISHED)[:, 0] == own).float().mean() <= 0.05
    assert (found.best(1, NEAREST)[:, 0] == own).float().mean() >= 0.95


def test_rows_compete_only_with_those_that_are_given() -> None:
    found, _ = planted(6)
    alone = Competition(found.behind[:1], found.words)
    assert torch.allclose(torch.cat(list(alone.terms())), torch.zeros(1, WORDS), atol=1e-6)
    assert alone.information() == pytest.approx(0, abs=1e-6)
    twins = Competition(found.behind[[0, 0]], found.words)  # two equal rows know nothing of each other's words
    assert torch.allclose(torch.cat(list(twins.terms())), torch.zeros(2, WORDS), atol=1e-6)


def test_a_lower_temperature_makes_rows_compete_harder() -> None:
    rows = torch.tensor([[2.0, 1.5], [2.5, 0.0]])
    words = torch.eye(2)  # the first word is nearest to both rows, and the other row has more of it
    assert Competition(rows, words).best(1, NEAREST)[:, 0].tolist() == [0, 0]
    assert Competition(rows, words, 0.2).best(1)[:, 0].tolist() == [1, 0]


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.inf, math.nan])
def test_a_temperature_is_above_zero(temperature: float) -> None:
    with pytest.raises(InputError, match="--temperature"):
        Competition(torch.ones(1, 2), torch.ones(1, 2), temperature)


def test_unknown_rules_and_other_widths_are_refused() -> None:
    with pytest.raises(InputError, match="choose among prior, published, nearest"):
        planted(2)[0].best(1, "first")
    with pytest.raises(InputError, match="rows are 2 wide and words 3"):
        Competition(torch.ones(1, 2), torch.ones(1, 3))


def test_spread_counts_words_in_lists() -> None:
    words = [f"word{place}" for place in range(300)]
    same = spread_of(torch.zeros(20, 1, dtype=torch.long), words)
    assert (same.diversity, same.lexical, same.dominant) == (pytest.approx(1 / 300), 1.0, 1.0)
    rare = spread_of(torch.arange(260, 280)[:, None], words)
    assert (rare.diversity, rare.lexical, rare.dominant) == (pytest.approx(20 / 300), 0.0, 0.0)
    assert PRIOR == "prior"


def test_one_pass_finds_what_each_rule_finds_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = torch.Generator().manual_seed(2)
    rows, words = torch.randn(23, 8, generator=drawn), torch.randn(40, 8, generator=drawn)
    one = Competition(rows, words, 0.7)
    whole, information = one.explained(6)
    assert information == pytest.approx(one.information())
    assert all(torch.equal(whole[rule], one.best(6, rule)) for rule in RULES)
    monkeypatch.setattr(method, "AT_ONCE", 5)
    parts, again = one.explained(6)
    assert all(torch.equal(parts[rule], whole[rule]) for rule in RULES)
    assert again == pytest.approx(information, abs=1e-6)
