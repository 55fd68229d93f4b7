"""Another behaviour than refusal goes the same way, and no record calls it a refusal."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from abliterate.errors import InputError
from abliterate.pipeline.load import load_run
from abliterate.pipeline.replies import collect_training_replies
from abliterate.pipeline.run import run
from abliterate.progress import SILENT
from abliterate.replies import behaviours
from abliterate.replies.refusals import is_refusal
from abliterate.report.load import gather
from abliterate.report.page import render
from fixtures.search import short_stages
from fixtures.tiny_chat import options


@dataclass(frozen=True)
class Declining:
    """A behaviour that shows exactly where refusals do."""

    def shows(self, reply: str) -> bool:
        return is_refusal(reply)


@pytest.fixture
def declining(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behaviours, "BEHAVIOURS", known := dict(behaviours.BEHAVIOURS))
    for user in ("pipeline.find", "pipeline.replies", "pipeline.run"):
        monkeypatch.setattr(f"abliterate.{user}.BEHAVIOURS", known)
    known["declining"] = Declining()


@pytest.mark.slow
def test_what_shows_where_refusals_do_is_edited_to_the_same_weights(declining: None, tmp_path: Path) -> None:
    usual, other = (
        run(options(tmp_path / name, layer=4, target=name, n_train=32)) for name in ("refusal", "declining")
    )
    first, second = (load_file(one.out / "model.safetensors") for one in (usual, other))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert usual.manifest["figures"] == other.manifest["figures"]
    assert "target" not in usual.manifest
    assert other.manifest["target"] == "declining"
    assert other.manifest["command"][2:4] == ["--target", "declining"]
    card = (other.out / "README.md").read_text()
    assert "shows less of one behaviour, `declining`" in card
    assert "refusal-direction" not in card
    assert "replies that show declining" in render(gather(other.out))


@pytest.mark.slow
def test_a_search_against_what_shows_where_refusals_do_finds_the_same_front(declining: None, tmp_path: Path) -> None:
    with short_stages():
        usual, other = (
            run(options(tmp_path / name, optimize=True, target=name, n_train=32)).manifest["search"]
            for name in ("refusal", "declining")
        )
    assert usual == other


def test_prompts_that_draw_nothing_of_it_are_refused_in_one_line(tmp_path: Path) -> None:
    loaded = load_run(options(tmp_path / "edited", target="slop", n_train=16), SILENT)
    with pytest.raises(InputError, match=r"0 of 16 replies to --harmful and \d+ of 16 to --harmless show slop"):
        collect_training_replies(loaded, SILENT)
