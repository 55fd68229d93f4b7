"""A vector beside its controls: what it does counts where they do nothing."""

from __future__ import annotations

from collections import Counter

from abliterate.studies.positions.method import Curve
from abliterate.studies.positions.run import Positions
from abliterate.studies.positions.swept import Swept, replied, tally, to_sweep


def line(slope: float) -> Curve:
    return Curve({alpha: (alpha * slope, alpha * slope * 1.01) for alpha in (-1.0, 1.0)})


CHANCE = (0.1, -0.1, 0.12)


def swept(slope: float, others: tuple[float, ...], kind: str = "refused", chance: tuple[float, ...] = CHANCE) -> Swept:
    curves = {f"form {number}": line(one) for number, one in enumerate(others)}
    controls = {"random": tuple(map(line, CHANCE)), "shuffled": (line(0.05),)}
    elsewhere = {form: tuple(map(line, chance)) for form in curves}
    return Swept("open/1", "open", 1, kind, 3, 1.0, {}, line(slope), curves, controls, elsewhere)


def test_a_vector_is_robust_by_its_own_form_and_the_others() -> None:
    assert swept(3, (3, 3, 3, 3, 0.1)).robust
    assert not swept(3, (3, 0.1)).robust
    assert not swept(0.2, (3, 3)).robust
    assert swept(-3, (3,)).verdict == "flipped"
    elsewhere = swept(3, (3,), chance=(2, -2, 2)).verdicts
    assert elsewhere == {"open": "robust", "form 0": "none"}, "chance is each form's own"
    assert swept(3, (3,)).control_verdicts("random") == ["none"] * 3
    assert swept(3, (3,)).control_verdicts("shuffled") == ["none"]
    assert tally({"a": swept(3, (3,)), "b": swept(3, (0.1,)), "c": swept(-3, ())}) == Counter(
        {"robust": 1, "robust on their own form, not on most others": 1, "flipped": 1}
    )


def test_replies_are_made_of_the_strongest_of_the_studys_own_kind_first() -> None:
    found = {f"r{size}": swept(size, ()) for size in (1, 5)} | {
        f"h{size}": swept(size, (), "harm") for size in (2, 9, 3)
    }
    assert replied(found) == ["r5", "r1", "h9", "h3"]


def test_harmful_against_harmless_is_swept_where_there_is_no_other(small: Positions) -> None:
    assert set(small.swept) == {"question/1-harm", "reply-open/1-harm", "reply-open/2"}
    usable = {name: cell for name, cell in small.cells.items() if cell.empty is None}
    assert [cell.name for cell in to_sweep(usable)] == ["question/1-harm", "reply-open/1-harm", "reply-open/2"]
    one = small.swept["reply-open/1-harm"]
    assert set(one.others) == {"question"}
    assert one.own.slope > 0
    assert len(one.controls["random"]) == 2
    held = one.to_json()
    assert held["verdicts"]["reply-open"] == one.verdict
    assert {row["alpha"] for row in held["replies"]} >= {-0.35, 0.0, 0.35}
