"""What healing must have kept."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from transformers import (
    PreTrainedModel,
)

from abliterate.architectures.architecture import find_architecture
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError, ProofError
from abliterate.interventions.recipe import Recipe
from abliterate.models.source import resolve
from abliterate.training.healed import edited_from, healed_components, prove_healed
from fixtures.tiny_chat import TINY
from fixtures.training import SEQUENCES

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


def test_a_model_edited_by_hand_names_no_origin(tmp_path: Path) -> None:
    folder = shutil.copytree(TINY, tmp_path / "mine")
    assert edited_from(resolve(str(folder))) is None
    (folder / "abliterate.json").write_text('{"source": "me"}')
    with pytest.raises(InputError, match="source should be an object, not text"):
        edited_from(resolve(str(folder)))
    (folder / "abliterate.json").write_text('{"source": {"model": "org/name", "files": {}}}')
    assert edited_from(resolve(str(folder))) == {"model": "org/name", "revision": None}


def test_the_proof_sees_what_comes_back(llama: PreTrainedModel, direction: torch.Tensor) -> None:
    orthogonalize(llama, direction)
    recipe = Recipe.uniform()
    before = healed_components(llama, find_architecture(llama), direction[None], recipe)
    assert prove_healed(llama, SEQUENCES, direction[None], recipe, before).drift == 0
    with torch.no_grad():
        llama.model.layers[2].mlp.down_proj.weight.add_(1e-4 * direction[:, None])
    with pytest.raises(
        ProofError, match=r"layers\.2\.mlp\.down_proj\.weight: healing brought .* of a random component back"
    ):
        prove_healed(llama, SEQUENCES, direction[None], recipe, before)
