"""A whole study, small: what belongs together is together, and what there is too little of says so."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError, NoRefusalsError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.storage.record_log import RecordLog
from abliterate.studies.positions.run import Asked, Positions, layers_of, positions, vectors_to_save


def test_what_a_study_holds(small: Positions) -> None:
    assert list(small.heard) == ["question", "reply-open"]
    assert set(small.cells) == {
        f"{form}/{place}" for form in ("question", "reply-open") for place in ("1", "1-harm", "2", "3")
    }
    assert small.cells["question/1"].empty == "13 refusals, 0 answers: not enough"
    assert set(small.vectors) == {("reply-open", 2)}, "half of what goes on turns behind its first sentence"
    assert small.similarity(3).names == ("question/1-harm", "reply-open/1-harm", "reply-open/2")
    with pytest.raises(InputError, match="layer 99 was not looked at"):
        small.similarity(99)
    with pytest.raises(InputError, match="there is no vector question/1; there are"):
        small.gain("question", 1)


def test_vectors_are_saved_plain_and_projected(small: Positions) -> None:
    saved = vectors_to_save(small)
    assert len(saved) == (2 * 2 + 1) * 7, "what has harmless states is saved projected, too"
    plain, projected = (saved[f"question/{place}/resid.4"] for place in ("1-harm", "1-harm-projected"))
    mean = small.harmless_means["question"][small.cells["question/1-harm"].layers.index(4)]
    assert abs(float(torch.nn.functional.cosine_similarity(projected, mean, dim=0))) < 1e-6
    assert torch.equal(plain, small.cells["question/1-harm"].vector(4))


def test_all_layers_are_looked_at_or_the_one_asked_for() -> None:
    assert layers_of("auto", 8) == layers_of("all", 8) == (1, 2, 3, 4, 5, 6, 7)
    assert layers_of(5, 8) == (5,)
    with pytest.raises(InputError, match="--layer 8 is out of range"):
        layers_of(8, 8)


def test_alphas_need_both_signs() -> None:
    with pytest.raises(InputError, match="both signs"):
        Asked(alphas=(0.0, 1.0))


def test_a_model_that_never_refuses_says_so(tiny_live: LiveModel) -> None:
    phrases = load_phrases("builtin:phrases-tiny").first(16)
    with pytest.raises(NoRefusalsError, match="never refuses"):
        positions(tiny_live, phrases, load_forms().choose(["raw-closed"]), tokens=4, samples=0)


def test_what_an_interrupted_study_has_kept_is_not_made_again(
    tiny_live: LiveModel, tmp_path: Path, computed: Counter[str]
) -> None:
    phrases, forms = load_phrases("builtin:phrases-tiny").first(16), load_forms().choose(["question"])

    def whole() -> Positions:
        kept = RecordLog(tmp_path / "units.jsonl")
        return positions(
            tiny_live, phrases, forms, samples=1, tokens=8, alphas=(-1.0, 0.0, 1.0), quick=True, kept=kept, layers=4
        )

    first = whole()
    made, lines = computed["replies"], (tmp_path / "units.jsonl").read_bytes()
    again = whole()
    assert computed["replies"] == made
    assert (tmp_path / "units.jsonl").read_bytes() == lines, "scores are kept too"
    assert again.replies == first.replies
    assert again.swept["question/1-harm"].own == first.swept["question/1-harm"].own
