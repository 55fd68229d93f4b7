"""Statistics of cosines: planted signals are found, shuffled labels are not, and the same seed gives the same figures."""

from __future__ import annotations

import math

import numpy
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as any_of

from abliterate.errors import InputError
from abliterate.studies.common import (
    Contrast,
    Cosine,
    Verdict,
    compare,
    floor,
    floor_between,
    holm,
    random_vectors,
    reliability,
    shuffled_vectors,
    verdict_of,
)

WIDTH = 64


def states(
    seed: int, signal: torch.Tensor, count: int = 92, noise: float = 1.0, spread: float = 0.0
) -> tuple[torch.Tensor, list[int]]:
    """Rows of two sides, `signal` apart; `spread` is how much of the noise all have along one direction (anisotropy)."""
    drawn = torch.Generator().manual_seed(seed)
    labels = [place % 2 for place in range(count)]
    rows = noise * torch.randn(count, WIDTH, generator=drawn) + torch.tensor(labels)[:, None] * signal
    rows[:, 0] += spread * torch.randn(count, generator=drawn)
    return rows, labels


def unit(place: int, length: float) -> torch.Tensor:
    return length * torch.eye(WIDTH)[place]


def turned(cosine: float, length: float) -> torch.Tensor:
    return cosine * unit(1, length) + math.sqrt(1 - cosine**2) * unit(2, length)


def test_the_vector_is_the_difference_in_means() -> None:
    rows, labels = states(0, unit(1, 3))
    chosen = torch.tensor(labels, dtype=torch.bool)
    expected = rows[chosen].double().mean(0) - rows[~chosen].double().mean(0)
    assert torch.allclose(Contrast.of(rows, labels).vector, expected)


def test_shares_count_on_both_sides() -> None:
    rows = torch.tensor([[1.0, 0.0], [0.0, 1.0], [4.0, 4.0]])
    expected = (rows[0] + 0.5 * rows[2]) / 1.5 - (rows[1] + 0.5 * rows[2]) / 1.5
    assert torch.allclose(Contrast.of(rows, [1, 0, 0.5]).vector, expected.double())


def test_a_planted_signal_is_reliable_and_noise_is_not() -> None:
    # The noise of such a vector has a mean square of 64 / 46 + 64 / 46.
    assert reliability(*states(1, unit(1, 8))) == pytest.approx(64 / (64 + 128 / 46), abs=0.02)
    assert reliability(*states(1, unit(1, 0))) < 0.5
    weak, strong = (reliability(*states(1, unit(1, length))) for length in (2.0, 4.0))
    assert weak < strong


def test_halves_that_are_the_same_agree_wholly() -> None:
    rows = torch.randn(2, WIDTH, generator=torch.Generator().manual_seed(4)).repeat(20, 1)
    assert reliability(rows, [1, 0] * 20) == pytest.approx(1)


def test_the_step_to_the_whole_is_spearman_and_browns() -> None:
    """Twice as many prompts are as reliable as the formula says: over many draws, not in each."""
    half = numpy.mean([reliability(*states(seed, unit(1, 2.5), count=40)) for seed in range(40)])
    whole = numpy.mean([reliability(*states(seed, unit(1, 2.5), count=80)) for seed in range(40)])
    assert whole == pytest.approx(2 * half / (1 + half), abs=0.03)


def test_reliability_is_the_cosine_with_as_many_other_prompts() -> None:
    pairs = [[Contrast.of(*states(seed + shift, unit(1, 3))).vector for shift in (0, 1000)] for seed in range(40)]
    between = numpy.mean([float(torch.cosine_similarity(one, other, dim=0)) for one, other in pairs])
    assert numpy.mean([reliability(*states(seed, unit(1, 3))) for seed in range(40)]) == pytest.approx(
        between, abs=0.03
    )


def test_rows_of_one_prompt_are_in_one_half() -> None:
    """Noise that the samples of a prompt share would pass for signal if they were parted."""
    rows, labels = states(3, unit(1, 0), count=20)
    several, said, prompts = rows.repeat_interleave(8, 0), [label for label in labels for _ in range(8)], [
        place for place in range(20) for _ in range(8)
    ]  # fmt: skip
    assert reliability(several, said) > 0.8
    assert reliability(several, said, prompts) < 0.5


def test_too_few_to_halve_is_one_line() -> None:
    with pytest.raises(InputError, match="3 prompts are too few to halve"):
        reliability(torch.randn(3, 4, generator=torch.Generator().manual_seed(1)), [1, 0, 0])


@pytest.mark.parametrize("spread", [0.0, 6.0])
def test_the_floor_holds_shuffled_vectors_95_times_in_100(spread: float) -> None:
    rows, labels = states(5, unit(1, 2), spread=spread)
    contrast = Contrast.of(rows, labels)
    least = floor(rows, labels, draws=2000)
    fresh = shuffled_vectors(contrast, 2000, seed=9)
    between = torch.cosine_similarity(fresh[::2], fresh[1::2]).abs()
    assert float((between < least).double().mean()) == pytest.approx(0.95, abs=0.02)  # 1000 pairs: 2.9 standard errors


def test_the_floor_of_anisotropic_states_is_high() -> None:
    round_states, long_states = (floor(*states(6, unit(1, 0), spread=spread)) for spread in (0.0, 20.0))
    assert round_states < 0.4
    assert long_states > 0.8


def test_labels_are_shuffled_inside_of_strata_alone() -> None:
    rows, labels = states(7, unit(1, 0), count=40)
    strata = [place // 20 for place in range(40)]
    rows[20:] += 100 * unit(3, 1)  # a difference between strata, which no shuffle inside of them may show
    inside = shuffled_vectors(Contrast.of(rows, labels, strata=strata), 50)
    across = shuffled_vectors(Contrast.of(rows, labels), 50)
    assert float(inside[:, 3].abs().max()) < 2
    assert float(across[:, 3].abs().max()) > 10
    with pytest.raises(InputError, match="the same inside of each of 2 strata, so that there is nothing to shuffle"):
        floor(rows, [0] * 20 + [1] * 20, strata)


def test_the_floor_of_two_contrasts_shuffles_each_for_itself() -> None:
    first, second = (Contrast.of(*states(8, unit(1, 2))) for _ in range(2))
    assert floor_between(first, second) < 0.6  # the same shuffle of both would be 1


def verdicts(cosine: float, length: float, count: int = 92, seeds: int = 12) -> list[str]:
    """What is said of two vectors whose true cosine is known, on noise of their own."""
    return [
        compare(
            Contrast.of(*states(seed, unit(1, length), count)),
            Contrast.of(*states(seed + 500, turned(cosine, length), count)),
            resamples=200,
        ).verdict
        for seed in range(seeds)
    ]


def test_planted_cosines_get_their_verdicts() -> None:
    assert verdicts(1.0, 8).count("same") >= 11
    assert verdicts(0.4, 6).count("different") >= 11
    assert verdicts(0.0, 6).count("unrelated") >= 10
    # Too noisy to say that they differ.
    assert verdicts(0.7, 1.5, count=40).count("different") <= 1


def test_the_interval_lies_around_the_cosine_and_covers_what_is_true_without_noise() -> None:
    covered = 0
    for seed in range(30):
        found = compare(
            Contrast.of(*states(seed, unit(1, 5))), Contrast.of(*states(seed + 500, turned(0.6, 5))), resamples=200
        )
        assert found.low <= found.value <= found.high
        _, low, high = found.disattenuated
        covered += low <= 0.6 <= high
    assert covered >= 26


def test_what_both_vectors_share_of_the_noise_is_drawn_together() -> None:
    rows, labels = states(11, unit(1, 3))
    one = Contrast.of(rows, labels, prompts=[f"p{place}" for place in range(len(rows))])
    apart = Contrast.of(rows, labels, prompts=[f"q{place}" for place in range(len(rows))])
    same, other = (compare(one, second, resamples=200) for second in (one, apart))
    assert (same.low, same.value, same.high) == pytest.approx((1, 1, 1))
    assert other.high - other.low > 0.02


def test_the_same_seed_gives_the_same_figures() -> None:
    first, second = (Contrast.of(*states(seed, unit(1, 3))) for seed in (12, 13))
    assert compare(first, second, seed=4) == compare(first, second, seed=4)
    assert compare(first, second, seed=4) != compare(first, second, seed=5)


@pytest.mark.parametrize(
    ("value", "low", "high", "least", "reliabilities", "verdict"),
    [
        (0.3, 0.2, 0.4, 0.5, (0.9, 0.9), "unrelated"),
        (-0.3, -0.4, -0.2, 0.5, (0.9, 0.9), "unrelated"),
        (0.88, 0.85, 0.92, 0.5, (0.9, 0.9), "same"),  # .85 / .9 = .94
        (0.88, 0.80, 0.92, 0.5, (0.9, 0.9), "not decidable"),
        (0.60, 0.55, 0.70, 0.5, (0.9, 0.9), "different"),
        (-0.8, -0.9, -0.7, 0.5, (0.9, 0.9), "different"),
        (0.60, 0.55, 0.82, 0.5, (0.9, 0.9), "not decidable"),  # .82 / .9 = .91
        (0.60, 0.55, 0.62, 0.5, (0.95, 0.75), "not decidable"),
        (0.60, 0.59, 0.62, 0.5, (0.0, 0.9), "not decidable"),
        (0.60, 0.55, 0.70, 0.6, (0.9, 0.9), "different"),
    ],
)
def test_the_table_of_verdicts(
    value: float, low: float, high: float, least: float, reliabilities: tuple[float, float], verdict: str
) -> None:
    assert verdict_of(value, low, high, least, reliabilities) == verdict


def test_a_cosine_without_a_ceiling_has_none_without_noise() -> None:
    found = Cosine(0.5, 0.4, 0.6, 0.1, 0.0, "not decidable")
    assert all(math.isnan(one) for one in found.disattenuated)
    assert found.to_json() == {
        "value": 0.5, "low": 0.4, "high": 0.6, "floor": 0.1, "ceiling": 0.0, "verdict": "not decidable",
        "disattenuated": {"value": None, "low": None, "high": None},
    }  # fmt: skip


def test_holm_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.5, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()


@given(any_of.lists(any_of.floats(0, 1), max_size=12))
def test_holm_keeps_the_order_and_lowers_nothing(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(one <= after <= 1 for one, after in zip(p_values, adjusted, strict=True))
    order = sorted(range(len(p_values)), key=lambda place: p_values[place])
    assert [adjusted[place] for place in order] == sorted(adjusted)
    assert all(after <= min(1, len(p_values) * one) for one, after in zip(p_values, adjusted, strict=True))


def test_random_vectors_are_as_long_and_point_anywhere() -> None:
    drawn = random_vectors(unit(1, 3))
    assert drawn.shape == (5, WIDTH)
    assert torch.allclose(drawn.norm(dim=1), torch.full((5,), 3.0, dtype=torch.float64))
    assert float(torch.corrcoef(drawn).fill_diagonal_(0).abs().max()) < 0.5
    assert torch.equal(drawn, random_vectors(unit(1, 3)))


@pytest.mark.parametrize(
    ("rows", "labels", "message"),
    [
        (torch.zeros(3, 2), [1, 0], "3 states has 2 labels, 3 prompts and 3 strata"),
        (torch.zeros(2, 2), [1, 2], "outside of 0 to 1"),
        (torch.zeros(2, 2), [1, math.nan], "outside of 0 to 1"),
        (torch.tensor([[1, math.nan], [0, 0]]), [1, 0], "NaN or infinite"),
        (torch.zeros(2, 2), [0, 0], "all 2 states of a contrast are on one side"),
        (torch.zeros(2, 2), [1, 1], "all 2 states of a contrast are on one side"),
    ],
)
def test_what_is_no_contrast_is_one_line(rows: torch.Tensor, labels: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Contrast.of(rows, labels)


def test_a_verdict_is_a_line() -> None:
    verdict = Verdict("forms agree", "cosine .91 [.88, .95]", "floor .52", "same", "The forms share one vector.")
    assert verdict.line == "forms agree | cosine .91 [.88, .95] | floor .52 | same"
    assert verdict.to_json()["sentence"] == "The forms share one vector."
