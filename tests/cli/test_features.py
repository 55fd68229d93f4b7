"""`abliterate features` on the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from abliterate import cli
from abliterate.cli.features import explain, steer, train
from abliterate.extras import missing
from fixtures.features import random_sae
from fixtures.tiny_chat import TINY
from servers.chat_server import ChatServer

CORPUS = ("--corpus", f"{TINY / 'harmful.txt'},{TINY / 'harmless.txt'}")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rule", "best"], "--rule best: choose among prior, published, nearest"),
        (["--corpus", "no-such-file.txt"], "no-such-file.txt"),
        (["--out", "no/such/place"], "there is no folder"),
        (["--temperature", "0"], "--temperature 0.0: give a number above 0"),
    ],
)
def test_bad_input_is_one_line(words: list[str], said: str, refused: Callable[..., str], tmp_path: Path) -> None:
    assert explain.__doc__
    random_sae(160, 24, layer=5).save(tmp_path / "sae")
    corpus = () if "--corpus" in words else (*CORPUS, "--texts", "24", "--reply-tokens", "0")
    assert said in refused("features", "explain", TINY, "--sae", tmp_path / "sae", *corpus, *words)


def test_an_explanation_as_tables(capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path) -> None:
    random_sae(160, 24, layer=5).save(tmp_path / "sae")
    words = [
        "features",
        "explain",
        str(TINY),
        "--sae",
        str(tmp_path / "sae"),
        *CORPUS,
        "--texts",
        "40",
        "--reply-tokens",
        "4",
    ]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--device", "cpu", "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for part in ("rows compete for", "words (prior)", "refused AUROC", "features.json"):
        assert part in said


def test_the_family_has_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["features", "--help"])
    assert "explain" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--calibrate", "much"], "--calibrate much"),
        (["--when", "always"], "--when always: choose among prompt, token"),
        (["--normal", "none.txt"], "none.txt"),
    ],
)
def test_bad_steering_is_one_line(words: list[str], said: str, refused: Callable[..., str], tmp_path: Path) -> None:
    assert steer.__doc__
    random_sae(160, 24, layer=5).save(tmp_path / "sae")
    assert said in refused(
        "features", "steer", TINY, "--sae", tmp_path / "sae", "--phrases", "builtin:phrases-tiny", *words
    )


@pytest.mark.slow
def test_a_steering_as_a_table(capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path) -> None:
    random_sae(160, 24, layer=5).save(tmp_path / "sae")
    words = [
        "features", "steer", str(TINY), "--sae", str(tmp_path / "sae"), "--concept", "ids:1,2", "--phrases", "builtin:phrases-tiny",
        "--only", "question,reply-open", "--normal", str(TINY / "harmless.txt"), "--quick", "--per-group", "4", "--reply-tokens", "8",
    ]  # fmt: skip
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--device", "cpu", "--out", str(tmp_path / "out")])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    for part in (
        "by number: 1, 2",
        "match: harmless phrases in that form",
        "reply-open",
        "difference",
        "random set",
        "quick: no verdicts",
        "features.json",
    ):
        assert part in said


@pytest.mark.skipif(bool(missing("features")), reason="sae-lens is not installed (extra features)")
@pytest.mark.filterwarnings("ignore")
def test_a_training_leaves_a_folder_that_explain_reads(cache: Path, tmp_path: Path) -> None:
    words = [
        "features",
        "train",
        str(TINY),
        *CORPUS,
        "--texts",
        "60",
        "--reply-tokens",
        "8",
        "--features",
        "48",
        "--active",
        "4",
    ]
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--epochs", "3", "--batch", "64", "--device", "cpu", "--out", str(tmp_path / "sae")])
    assert stop.value.code == 0
    assert sorted(one.name for one in (tmp_path / "sae").iterdir()) == [
        "cfg.json",
        "features.json",
        "sae_weights.safetensors",
    ]
    with pytest.raises(SystemExit) as stop:
        cli.main(
            [
                "features",
                "explain",
                str(TINY),
                "--sae",
                str(tmp_path / "sae"),
                *CORPUS,
                "--texts",
                "40",
                "--device",
                "cpu",
            ]
        )
    assert stop.value.code == 0


@pytest.mark.skipif(not missing("features"), reason="sae-lens is installed")
def test_training_says_what_it_needs(refused: Callable[..., str], tmp_path: Path) -> None:
    assert train.__doc__
    said = refused("features", "train", TINY, "--out", tmp_path / "sae")
    assert "training an SAE needs sae_lens" in said


def explaining(folder: Path) -> list[str]:
    """A command that explains a random SAE, which it saves there, on a few short texts."""
    random_sae(160, 24, layer=5).save(folder)
    few = ("--texts", "24", "--reply-tokens", "0", "--device", "cpu")
    return ["features", "explain", str(TINY), "--sae", str(folder), *CORPUS, *few]


def test_what_an_edit_changed_is_a_table_too(capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path) -> None:
    words = explaining(tmp_path / "sae")
    with pytest.raises(SystemExit) as stop:
        cli.main([*words, "--edited", str(TINY)])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "changed most" in said
    assert "0 [0, 0]" in said


def test_names_of_a_served_model_do_nothing_to_the_terminal(
    capsys: pytest.CaptureFixture[str], cache: Path, tmp_path: Path
) -> None:
    words = explaining(tmp_path / "sae")
    with ChatServer(lambda request: "\x1b[2J") as server, pytest.raises(SystemExit) as stop:
        cli.main([*words, "--judge-endpoint", server.url])
    assert stop.value.code == 0
    said = capsys.readouterr().out
    assert "\x1b[2J" not in said
    assert "[2J" in said
    assert "│ name " in said or "┃ name " in said
