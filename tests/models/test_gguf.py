"""A `.gguf` file as a checkpoint: the same model, made once for each content."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate.errors import AbliterateError, InputError
from abliterate.models.gguf import from_gguf
from abliterate.models.source import resolve_config
from abliterate.progress import SILENT
from fixtures.patience import patience
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


NAME, TENSOR = b"general.architecture", b"blk.0.attn_q.weight"
ARCHITECTURE = struct.pack("<Q", len(NAME)) + NAME + struct.pack("<IQ", 8, 5) + b"llama"
LAYERS = struct.pack("<Q", 17) + b"llama.block_count" + struct.pack("<II", 4, 10**9)


def one_tensor(*shape: int) -> bytes:
    dimensions = struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape)
    return struct.pack("<Q", len(TENSOR)) + TENSOR + dimensions + struct.pack("<IQ", 0, 0)


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<QQ", 2**60, 0),
        struct.pack("<QQ", 0, 2**60),
        struct.pack("<QQQ", 1, 1, 2**40) + NAME,
        struct.pack("<QQQ", 0, 1, 1) + b"a" + struct.pack("<IIQ", 9, 0, 2**50) + b"\0" * 64,
        struct.pack("<QQQ", 0, 1, 1) + b"a" + struct.pack("<IQ", 9, 1) * 5000,
        struct.pack("<QQ", 1, 1) + ARCHITECTURE + one_tensor(2**50, 2**50) + b"\0" * 64,
        struct.pack("<QQ", 0, 2) + ARCHITECTURE + LAYERS,
    ],
    ids=["tensors", "metadata", "a name", "an array", "arrays in arrays", "a shape", "layers"],
)
def test_absurd_sizes_are_one_line_within_seconds(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<I", 3) + content)
    with patience():
        for read in (lambda: from_gguf(path, SILENT), lambda: resolve_config(str(path))):
            with pytest.raises(AbliterateError, match=r"x\.gguf") as caught:
                read()
            assert len(str(caught.value).splitlines()) == 1
            assert len(str(caught.value)) < 500


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
