"""What was done, in a few words, and the headline figures."""

from __future__ import annotations

from abliterate.report.load import Gathered
from abliterate.report.sections.headline import cards, facts


def test_the_cards_say_what_came_of_it(whole: Gathered) -> None:
    shown = cards(whole.manifest)
    assert [card["value"] for card in shown[:2]] == ["8.0%", "0%"]
    assert shown[-1]["title"] == "Proof"
    assert shown[-1]["value"] == "Holds"


def test_a_proof_that_does_not_hold_says_so_on_its_card(whole: Gathered) -> None:
    failed = {**whole.manifest, "proof": {**whole.manifest["proof"], "holds": False}}
    assert cards(failed)[-1]["value"] == "Does not hold"


def test_without_figures_the_proof_alone(bare: Gathered) -> None:
    assert [card["title"] for card in cards(bare.manifest)] == ["Proof"]


def test_facts_name_direction_prompts_and_seed(whole: Gathered) -> None:
    told = dict(facts(whole))
    assert told["revision"] == "abc123"
    assert told["direction"] == "learned, projected, position −1"
    assert told["harmful prompts"] == "harmful.txt, 80 made it, 25 measure it"
    assert told["seed"] == "3"
    assert told["edited"] == f"12 tensors in {whole.depth} layers"
