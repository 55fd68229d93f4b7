"""A planted vector at the end of a sentence is found there, and is not at the end of the prompt."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.replies.places import with_reply
from abliterate.studies.common import Contrast, floor
from abliterate.studies.positions.cells import CASES, Cell, Taken, balanced, checked, first_cells, later_cell, states_of
from abliterate.studies.positions.listen import Case, Heard, judged
from abliterate.studies.replies import Unit

WIDTH = 64
LAYERS = (1, 2)


def cell(states: torch.Tensor, labels: list[float], **changes: object) -> Cell:
    count = len(labels)
    names = tuple(f"p{place}" for place in range(count))
    found = Cell("open", 2, "refused", (4,), states[:, None], tuple(labels), names, ("a", "b") * (count // 2))
    return replace(found, **{"depths": (5,) * count, **changes})  # type: ignore[arg-type]


def planted(size: float) -> tuple[torch.Tensor, list[float], torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    direction = torch.nn.functional.normalize(torch.randn(WIDTH, generator=rng), dim=0)
    labels = [float(place % 4 < 2) for place in range(96)]
    states = torch.randn(96, WIDTH, generator=rng) + size * torch.tensor(labels)[:, None] * direction
    return states, labels, direction


def test_a_planted_vector_is_found_where_it_is_written() -> None:
    written, labels, direction = planted(15.0)
    at_two = checked(cell(written, labels), Taken((4,)))
    assert at_two.empty is None
    vector = at_two.vector(4)
    assert float(torch.nn.functional.cosine_similarity(vector, direction.double(), dim=0)) >= 0.98
    at_one, _, _ = planted(0.0)
    contrast = Contrast.of(at_one, labels)
    between = torch.nn.functional.cosine_similarity(contrast.vector, direction.double(), dim=0)
    assert abs(float(between)) < floor(contrast.rows, labels)


def test_shares_weigh_both_sides() -> None:
    states = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    found = Contrast.of(states, [0.75, 0.25]).vector
    assert found.tolist() == pytest.approx([0.5, -0.5])


def test_what_goes_with_depth_is_taken_away() -> None:
    states, labels, direction = planted(4.0)
    depths = tuple(range(96))
    drift = torch.zeros(WIDTH)
    drift[0] = 5.0
    moved = states + torch.tensor(depths)[:, None] * drift
    found = cell(moved, labels, depths=depths).at_equal_depth(4)
    assert float(torch.nn.functional.cosine_similarity(found, direction.double(), dim=0)) > 0.9
    still = cell(states, labels)
    assert torch.equal(still.at_equal_depth(4), still.vector(4))


def test_too_few_cases_make_no_vector_and_say_how_many() -> None:
    states, labels, _ = planted(1.0)
    assert checked(cell(states[:20], labels[:20]), Taken((4,))).empty == "10 refusals, 10 answers: not enough"
    assert checked(cell(states[:20], labels[:20]), Taken((4,), enough=8)).empty is None


def test_strata_of_one_side_each_are_put_together() -> None:
    states, labels, _ = planted(1.0)
    pure = cell(states, labels, strata=tuple("a" if label else "b" for label in labels))
    assert set(checked(pure, Taken((4,))).strata) == {""}


SAID = ("A sentence of its own. I cannot help with that.", "A sentence of its own. There is another one.")


def heard_of(live: LiveModel) -> Heard:
    """Every second harmful prompt is refused after the first sentence, whatever the model says."""
    form = load_forms()["question"]
    sides: dict[str, tuple[Case, ...]] = {}
    for side in ("harmful", "harmless"):
        unit = Unit.of(live, form, load_phrases("builtin:phrases-tiny").first(24), side)  # type: ignore[arg-type]
        cases = []
        for place, (phrase, text) in enumerate(zip(unit.phrases, unit.texts, strict=True)):
            words = SAID[place % 2]
            tokens = tuple(live.tokenizer(words, add_special_tokens=False)["input_ids"])
            decoded = live.tokenizer.decode(list(tokens))
            reply = judged(tokens, decoded, "en", lambda sentence, language: "cannot" in sentence)
            cases.append(Case(phrase, text, reply))
        sides[side] = tuple(cases)
    return Heard(form, sides["harmful"], sides["harmless"])


def test_states_are_those_of_the_location(tiny_live: LiveModel) -> None:
    heard = heard_of(tiny_live)
    found = later_cell(tiny_live, heard, 2, Taken(LAYERS, enough=2))
    assert found.empty is None
    assert set(found.labels) == {0.0, 1.0}
    case = next(one for one in heard.of("harmful", "train") if one.name == found.prompts[0])
    whole = with_reply(case.text, case.greedy.tokens, tiny_live.tokenizer)  # type: ignore[union-attr]
    end = whole.place("sentence_end[0]")
    with torch.no_grad():
        states = tiny_live.model(torch.tensor([whole.tokens[: end + 1]]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(found.states[0, 0], states[LAYERS[0]][0, -1], atol=1e-4, rtol=1e-4)
    assert found.depths[0] == end + 1 - len(case.text.tokens)
    assert later_cell(tiny_live, heard, 3, Taken(LAYERS)).empty == "0 refusals, 0 answers: not enough"


def test_first_vectors_are_of_two_kinds(tiny_live: LiveModel) -> None:
    heard = heard_of(tiny_live)
    refused, harm = first_cells(states_of(tiny_live, heard, Taken(LAYERS, enough=2)), Taken(LAYERS, enough=2))
    assert refused.empty == "0 refusals, 13 answers: not enough"
    assert harm.empty is None
    assert harm.name == "question/1-harm"
    assert len(harm.states) == 26


def test_many_cases_of_a_side_are_drawn_by_the_seed() -> None:
    labels = [place < 200 for place in range(210)]
    few = balanced(labels, 0)
    assert len(few) == CASES + 10
    assert few == balanced(labels, 0)
    assert few != balanced(labels, 1)
