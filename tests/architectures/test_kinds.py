"""What is found once for all models of a kind: the same as found anew, and never for a model of another kind."""

from __future__ import annotations

import copy

import pytest
from transformers import PreTrainedModel

from abliterate.architectures import clone
from abliterate.architectures.architecture import find_architecture
from abliterate.architectures.kinds import Kind, empty_twin, traced_clone
from abliterate.errors import ArchitectureError
from fixtures.models import FAMILIES, random_model


def forget() -> None:
    traced_clone.cache_clear()
    empty_twin.cache_clear()


def test_what_is_remembered_is_what_is_found_anew(model: PreTrainedModel) -> None:
    forget()
    anew = find_architecture(model)
    hits = traced_clone.cache_info().hits
    assert find_architecture(model) == anew
    assert traced_clone.cache_info().hits == hits + 1


def test_families_are_of_different_kinds_and_a_copy_is_of_the_same() -> None:
    kinds = [Kind.of(random_model(name)) for name in FAMILIES]
    assert len(set(kinds)) == len(kinds)
    assert [Kind.of(random_model(name)) for name in FAMILIES] == kinds


@pytest.mark.parametrize(
    ("name", "value"), [("num_hidden_layers", 2), ("tie_word_embeddings", True), ("_attn_implementation", "eager")]
)
def test_a_config_that_says_another_thing_is_another_kind(llama: PreTrainedModel, name: str, value: object) -> None:
    before = Kind.of(llama)
    assert getattr(llama.config, name) != value
    setattr(llama.config, name, value)
    assert Kind.of(llama) != before


def test_where_a_model_was_loaded_from_makes_no_other_kind(llama: PreTrainedModel) -> None:
    before = Kind.of(llama)
    llama.config._name_or_path = "elsewhere"
    assert Kind.of(llama) == before


def test_a_config_that_changes_afterwards_changes_nothing_that_is_remembered(llama: PreTrainedModel) -> None:
    forget()
    kind, config = Kind.of(llama), copy.deepcopy(llama.config)
    small, _ = traced_clone(kind)
    llama.config.num_hidden_layers = 7
    same = Kind(type(llama), kind.said, config)
    assert traced_clone(same)[0] is small
    assert len(empty_twin(Kind.of(llama)).model.layers) == 7


def test_a_failure_is_not_remembered(llama: PreTrainedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    forget()
    with monkeypatch.context() as patch:
        patch.setattr(clone, "MOST_PARAMETERS", 10)
        with pytest.raises(ArchitectureError, match="its small clone still has"):
            find_architecture(llama)
    assert find_architecture(llama).depth == llama.config.num_hidden_layers
