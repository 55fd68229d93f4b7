"""The study as a command: what it refuses, and what it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file

from abliterate import extras
from abliterate.commands.clusters import clusters
from abliterate.errors import InputError
from abliterate.pipeline.study_options import StudyOptions
from abliterate.studies.clusters.options import ClustersOptions
from fixtures.tiny_chat import TINY


def test_without_its_extra_the_command_says_what_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(
        InputError, match=r"clusters needs minisom and sklearn, which are not installed: pip install .*study"
    ):
        clusters(StudyOptions(str(TINY)))


@pytest.mark.slow
def test_a_quick_study_leaves_its_record_and_nothing_in_the_cache(tmp_path: Path, cache: Path) -> None:
    options = StudyOptions(str(TINY), phrases="builtin:phrases-tiny", quick=True, out=tmp_path / "out", device="cpu")
    chosen = ClustersOptions(method="concept", compare=("som",), reply_tokens=12)
    one = clusters(options, chosen)
    assert one.path == tmp_path / "out" / "clusters.json"
    held = json.loads(one.path.read_text())
    assert held["notes"][0] == "quick: no verdicts"
    assert {verdict["verdict"] for verdict in held["verdicts"]} == {"quick: no verdicts"}
    assert held["dtype"] == "float32"
    assert load_file(tmp_path / "out" / "clusters.safetensors")["frame/cluster-1/resid.5"].shape == (160,)
    assert not list((cache / "studies").iterdir())
    again = clusters(options, chosen)
    assert json.loads(again.path.read_text()) == held  # type: ignore[union-attr]
