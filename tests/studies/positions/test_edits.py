"""Which vector is best to edit with: chosen on one part, shown on another, beside random ones."""

from __future__ import annotations

import torch

from abliterate.directions.scores import final_states, first_token_log_probs, prepare_openings, refusal_score
from abliterate.evaluation.statistics import Mean
from abliterate.interventions import ablated
from abliterate.models.head import Head, kl_divergence
from abliterate.models.live_model import LiveModel
from abliterate.studies.positions.edits import Edit, Editing, Edits, refused_unit
from abliterate.studies.positions.listen import safe_sentence
from abliterate.studies.positions.record import edit_verdicts
from abliterate.studies.positions.run import Positions
from abliterate.studies.positions.sweep import openings_of


def edit(name: str, score: float, kl: float, left: int, of: int = 12) -> Edit:
    refused = (True,) * left + (False,) * (of - left)
    return Edit(
        name, 4, float(score), float(kl), Mean((float(kl), float(kl))), Mean(()), {"question": refused}, {"question": 0}
    )


def test_the_best_vector_scores_least_among_those_that_spare_harmless_prompts() -> None:
    strong, near, weak = edit("a/1", -9, 0.5, 0), edit("b/1", -5, 0.05, 1), edit("c/1", 2, 0.0, 12)
    random = (edit("random 1", 8, 0.0, 12), edit("random 2", 9, 0.0, 11))
    found = Edits((strong, near, weak), random, 9.0)
    assert found.best == near
    assert found.best_random == random[1]
    (verdict,) = edit_verdicts(found)
    assert verdict.verdict == "b/1 at layer 4"
    assert "--form b --place 1 --layer 4 --direction mean-difference." in verdict.sentence
    assert edit("b/1-harm-projected", 0, 0, 0).flags == "--form b --place 1-harm --layer 4"
    assert "1/12" in verdict.figure
    assert "11/12" in verdict.control
    (verdict,) = edit_verdicts(Edits((weak,), random, 9.0))
    assert verdict.verdict == "none beats random vectors"
    (verdict,) = edit_verdicts(Edits((strong,), random, 9.0))
    assert verdict.verdict == "none"
    assert "0.1 nats" in verdict.sentence
    (verdict,) = edit_verdicts(Edits((edit("b/1", -5, 0.05, 0, 0),), (edit("random 1", 8, 0.0, 0, 0),), 9.0))
    assert verdict.verdict == "not decidable"
    assert "nan" not in " ".join((verdict.figure, verdict.control))


def test_scores_and_divergences_are_those_of_a_plain_ablation(tiny_live: LiveModel, small: Positions) -> None:
    editing = Editing(tiny_live, openings_of(small.heard), 8, safe_sentence)
    prompts = [case.text.tokens for case in small.heard["question"].of("harmful", "select")][:3]
    rows = torch.randn(9, 160, generator=torch.Generator().manual_seed(0))
    scores, divergences = editing.scored(rows, prompts), editing.divergences(rows, prompts)
    assert scores.shape == divergences.shape == (9, 3)
    model, head = tiny_live.model, Head(tiny_live.model)
    usual = first_token_log_probs(model, head, prompts)
    batch = prepare_openings(model, prompts, editing.openings)
    for place in (0, 8):
        with ablated(model, rows[place]):
            expected = refusal_score(head, batch, final_states(model, batch))[0]
            moved = kl_divergence(usual, first_token_log_probs(model, head, prompts))
        torch.testing.assert_close(scores[place].float(), expected, atol=1e-3, rtol=1e-3)
        torch.testing.assert_close(divergences[place].float(), moved.float(), atol=1e-4, rtol=1e-3)


def test_the_tiny_models_refusals_go_with_its_vector_and_stay_with_random_ones(small: Positions) -> None:
    found = small.edits
    assert found is not None
    # Harmless prompts have no mean at later places.
    expected = [name if name.endswith(("/2", "/3")) else f"{name}-projected" for name in small.swept]
    assert [one.name for one in found.rows] == expected
    assert len(found.random) == 2
    question = next(one for one in found.rows if one.name == "question/1-harm-projected")
    asked = len(refused_unit(small.heard["question"]).texts)
    assert len(question.refused["question"]) == asked > 0
    assert sum(question.refused["question"]) <= 1
    assert all(one.left.value > 0.5 for one in found.random)
    assert question.score < found.unedited
    assert found.to_json()["best"] in {one.name for one in found.rows}
