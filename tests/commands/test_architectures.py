"""The verb that lists architectures."""

from __future__ import annotations

import pytest

from abliterate.commands import architectures as module
from abliterate.commands.architectures import architectures
from abliterate.errors import InputError


def test_those_that_are_named_are_proved_in_their_order() -> None:
    assert [one.model_type for one in architectures(["qwen2", "llama"])] == ["qwen2", "llama"]
    with pytest.raises(InputError):
        architectures(["unheard-of"])


def test_without_names_all_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(module, "prove_each", lambda types, progress: iter(asked.extend(types) or ()))
    assert architectures() == []
    assert asked == [*module.model_types(), *module.multimodal_types()]
