"""`abliterate clusters` on the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate import cli
from abliterate.cli.clusters import clusters
from fixtures.tiny_chat import TINY

PHRASES = ("--phrases", "builtin:phrases-tiny")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--layer", "last"], "--layer last: give auto or a whole number"),
        (["--clusters", "0"], "--clusters 0: give auto, or a number of clusters from 1 up"),
        (["--method", "magic"], "--method magic: choose among gradient, concept, activation"),
        (["--compare", "magic"], "--compare magic: choose among som, rdo, categories"),
        (["--frame", "How?"], "--frame How?: write {p} where the phrase goes"),
        (["--layer", "99"], "--layer 99 is out of range; this model has layers 1 to 7"),
        (["--dtype", "bfloat16"], "gradients in bfloat16 are noise"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, refused: Callable[..., str]) -> None:
    assert clusters.__doc__
    assert said in refused("clusters", TINY, *PHRASES, "--device", "cpu", *words)


def test_too_few_refusals_are_one_line(tmp_path: Path, refused: Callable[..., str]) -> None:
    phrases = tmp_path / "phrases.tsv"
    phrases.write_text("".join(f"a\tpaint fence {place}\tpaint door {place}\n" for place in range(10)))
    said = refused("clusters", TINY, "--phrases", phrases, "--reply-tokens", "8", "--device", "cpu")
    assert "harmful prompts are refused, and clusters need 24" in said or "the model never refuses" in said


@pytest.mark.slow
def test_a_quick_study_as_tables_and_as_json(capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path) -> None:
    words = ["clusters", str(TINY), *PHRASES, "--quick", "--reply-tokens", "12", "--device", "cpu"]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for part in (
        "stability",
        "shuffled",
        "shared with",
        "neuron 1",
        "rdo",
        "cone 1",
        "unedited",
        "quick: no verdicts",
        "clusters.json",
    ):
        assert part in said
    with pytest.raises(SystemExit):
        cli.main([*words, "--method", "concept", "--compare", "none", "--json"])
    held = json.loads(capsys.readouterr().out)
    assert held["study"] == "clusters"
    assert held["settings"]["method"] == "concept"
