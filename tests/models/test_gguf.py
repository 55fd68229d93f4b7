"""A `.gguf` file as a checkpoint: the same model, made once for each content."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate.errors import InputError
from abliterate.models.gguf import from_gguf
from abliterate.progress import SILENT
from servers.llama_server import TINY_CHAT, tiny_gguf


def test_it_is_the_model_that_it_was_made_of_and_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))
    path = tiny_gguf(tmp_path)
    folder = from_gguf(path, SILENT)
    assert folder.parent == tmp_path / "cache" / "gguf"
    assert not list(folder.parent.glob("*.partial"))
    original, found = (
        AutoModelForCausalLM.from_pretrained(one, dtype=torch.float32).eval() for one in (TINY_CHAT, folder)
    )
    tokens = torch.tensor([[5, 9, 33, 71]])
    with torch.no_grad():
        expected = original(tokens).logits
        assert torch.allclose(found(tokens).logits, expected, atol=0.02 * float(expected.abs().max()))
    made = (folder / "model.safetensors").stat().st_mtime_ns
    path.rename(tmp_path / "renamed.gguf")
    assert from_gguf(tmp_path / "renamed.gguf", SILENT) == folder
    assert (folder / "model.safetensors").stat().st_mtime_ns == made


def test_what_is_no_gguf_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"x\.gguf: no such file"):
        from_gguf(tmp_path / "x.gguf", SILENT)
    (tmp_path / "x.gguf").write_bytes(b"GGUF of nothing at all, for sure")
    with pytest.raises(InputError, match=r"x\.gguf: transformers cannot read this GGUF file \(") as caught:
        from_gguf(tmp_path / "x.gguf", SILENT)
    assert "\n" not in str(caught.value)


def test_what_lies_beside_the_file_is_no_part_of_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a file that names another, or is a link to one, would be copied into what is written and pushed."""
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "secret.json").write_text('{"note": "PRIVATE KEY"}')
    (tmp_path / "folder").mkdir()
    path = tiny_gguf(tmp_path / "folder")
    for name in ("tokenizer_config.json", "generation_config.json", "special_tokens_map.json"):
        (path.parent / name).symlink_to(tmp_path / "secret.json")
    made = from_gguf(path, SILENT)
    assert not [one for one in made.iterdir() if b"PRIVATE KEY" in one.read_bytes()]
