"""Opening a model: found, built without weights, its writers proved; each refusal is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abliterate.errors import ArchitectureError, CheckpointError, InputError
from abliterate.models.source import Source
from abliterate.pipeline import open_model as open_model_module
from abliterate.pipeline.open_model import open_config, open_model, open_source
from fixtures.models import FAMILIES, random_model
from fixtures.tiny_chat import TINY, options


def test_a_model_is_opened_with_its_proof_and_no_weights(tmp_path: Path) -> None:
    opened = open_model(options(tmp_path / "out"))
    assert opened.source.folder == TINY
    assert opened.architecture.depth == opened.empty.config.num_hidden_layers
    assert opened.proved is not None
    assert all(one.is_meta for one in opened.empty.parameters())
    name, empty = open_config(options(tmp_path / "out"))
    assert name == opened.source.public_name == TINY.name
    assert {key: one.shape for key, one in empty.named_parameters()} == {
        key: one.shape for key, one in opened.empty.named_parameters()
    }


def test_the_revision_is_that_of_the_model_that_was_named(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []
    here = open_source(options(Path()))

    def remember(name: str, *, revision: str | None, **_: object) -> Source:
        asked.append((name, revision))
        return here

    monkeypatch.setattr(open_model_module, "resolve", remember)
    given = options(Path(), model="org/edited", revision="abc")
    open_source(given)
    open_source(given, model="org/edited")
    open_source(given, model="org/original")
    assert asked == [("org/edited", "abc"), ("org/edited", "abc"), ("org/original", None)]


def test_what_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder or file, and not a Hub id"):
        open_model(options(tmp_path, model=str(tmp_path / "gone")))
    (tmp_path / "a-file").touch()
    with pytest.raises(InputError, match="is a file; give a Hub id, a folder or a"):
        open_source(options(tmp_path, model=str(tmp_path / "a-file")))
    (tmp_path / "nothing").mkdir()
    with pytest.raises(CheckpointError, match="found no safetensors"):
        open_source(options(tmp_path, model=str(tmp_path / "nothing")))
    folder = tmp_path / "model"
    random_model("llama").save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "nobody-knows"}))
    with pytest.raises(InputError, match="cannot be loaded"):
        open_model(options(tmp_path, model=str(folder)))


def test_an_architecture_that_cannot_be_proved_is_refused_unless_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """openai-gpt norms the sum of stream and block, so that no edit of the writers is exact."""
    monkeypatch.setitem(FAMILIES, "openai-gpt", FAMILIES["gpt2"])
    random_model("openai-gpt").save_pretrained(tmp_path)
    given = options(tmp_path / "out", model=str(tmp_path))
    with pytest.raises(ArchitectureError):
        open_model(given)
    opened = open_model(options(tmp_path / "out", model=str(tmp_path), allow_unproved=True))
    assert opened.proved is None
    assert opened.architecture.problems
