"""What `heal` refuses before anything is trained."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from abliterate.cli.heal import healed, healed_json
from abliterate.commands.heal import Healed
from abliterate.training.heal import Training
from abliterate.training.healed import KeptOut
from fixtures.tiny_chat import TINY


def test_a_folder_that_abliterate_did_not_write(refused: Callable[..., str], tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text('{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}')
    said = refused("heal", TINY, "--dataset", data, "--out", tmp_path / "healed")
    assert "heal a checkpoint that abliterate has edited" in said
    assert not (tmp_path / "healed").exists()


def test_an_adapter_of_no_edit_has_nothing_to_keep_out(tmp_path: Path) -> None:
    proof = KeptOut(drift=1e-8, limit=1e-6, per_layer=())
    shown = healed_json(
        Healed(tmp_path, Training(examples=9, held_out=1, steps=2, loss_before=2.0, loss_after=1.5), proof)
    )
    assert shown["out"] == str(tmp_path)
    assert shown["training"]["loss_after"] == 1.5
    assert shown["proof"]["drift"] == 1e-8


def test_a_loss_that_stayed_says_that_nothing_was_healed(tmp_path: Path) -> None:
    proof = KeptOut(drift=1e-8, limit=1e-6, per_layer=())
    for after, said in ((2.0, True), (1.5, False)):
        one = Healed(tmp_path, Training(examples=9, held_out=1, steps=2, loss_before=2.0, loss_after=after), proof)
        console = Console(file=io.StringIO(), width=200)
        console.print(healed(one))
        assert ("Nothing was healed" in console.file.getvalue()) == said  # type: ignore[attr-defined]
