"""Hardening and healing by the command, on the tiny model, in a few steps: what they write and what they say."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from abliterate.checkpoints.checkpoint import content_hash
from abliterate.commands.evaluate import evaluate
from abliterate.commands.harden import hardening_command
from abliterate.models.source import resolve
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.prompts.prompt_set import load_prompts
from abliterate.records.training_card import training_card
from abliterate.training.harden_options import HardenOptions
from abliterate.training.robustness import ATTACK_PROMPTS
from fixtures.model_cards import metadata
from fixtures.tiny_chat import TINY, options
from fixtures.training_verbs import call, record_of

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
LISTS = ["--harmful", str(TINY / "harmful.txt"), "--harmless", str(TINY / "harmless.txt"), "--device", "cpu"]


@pytest.fixture(scope="module")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An adapter of two steps, by the command, and what the command said of it."""
    out = tmp_path_factory.mktemp("harden") / "hardened"
    code, said, error = call(str(TINY), "--mode", "harden", *LISTS, "--steps", "2", "--out", str(out), "--json")
    assert code == 0, error
    return out, json.loads(said)


def test_a_hardened_adapter_is_written_with_its_figures(hardened: tuple[Path, dict[str, Any]]) -> None:
    out, said = hardened
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "abliterate.toml",
        "hardened.json",
    }
    record = record_of(out / "hardened.json")
    assert said["after"] == record["after"]
    assert record["before"]["edited"]["count"] == 0
    assert record["before"]["harmful"]["rate"] == 1
    written = "".join(
        (out / name).read_text() for name in ("abliterate.toml", "hardened.json", "adapter_config.json", "README.md")
    )
    assert str(TINY.parent) not in written
    assert str(out.parent) not in written
    one = evaluate(
        options(Path(), model=str(out)), EvaluateOptions(reply_tokens=8, n_prompts=8, look_alikes=None), str(TINY)
    )
    assert one.model.name == "hardened"
    code, _, error = call(str(TINY), "--mode", "harden", *LISTS, "--out", str(out))
    assert (code, "--force" in error) == (2, True)


def test_a_hardened_adapter_says_how_it_came_about(hardened: tuple[Path, dict[str, Any]]) -> None:
    out, _ = hardened
    record, text = record_of(out / "hardened.json"), (out / "README.md").read_text()
    assert record["command"] == [
        "abliterate", "tiny-chat", "--mode", "harden", "--steps", "2", "--harmful", "harmful.txt",
        "--harmless", "harmless.txt", "--out", "hardened",
    ]  # fmt: skip
    code, _, error = call(*record["command"][1:], "--help")
    assert code == 0, error
    assert record["source"] == {
        "model": "tiny-chat", "revision": None, "files": {"model.safetensors": content_hash(TINY / "model.safetensors")}
    }  # fmt: skip
    sides = {side: load_prompts(str(TINY / f"{side}.txt")) for side in ("harmful", "harmless")}
    for side, prompts in sides.items():
        assert record["prompts"][side]["digest"] == prompts.digest
        assert record["prompts"][side]["report"] == record["after"][side]["total"] == len(prompts.side("report"))
    tried = min(ATTACK_PROMPTS, len(sides["harmful"].side("select")))
    assert [record["prompts"][side]["select"] for side in sides] == [tried, 0]
    assert metadata(text)["tags"] == ["abliterate", "refusal-direction", "adversarial-training"]
    counts = record["after"]["edited"]
    assert f"{counts['count']} of {counts['total']} |" in text
    for name in ("torch", "transformers", "peft"):
        assert f"`{name} {version(name)}`" in text
    assert text == training_card(record, (TINY / "README.md").read_text() if (TINY / "README.md").is_file() else None)


def test_settings_of_hardening_that_are_not_the_usual_ones_are_in_its_command() -> None:
    source = resolve(str(TINY))
    wish = options(Path("/somewhere/hard"), seed=3, layer=5, system="Be brief.", batch_size=4)
    words = hardening_command(wish, source, HardenOptions(learning_rate=1e-4, ablate_probability=0.25, refresh=5))
    assert words == [
        "abliterate", "tiny-chat", "--mode", "harden", "--learning-rate", "0.0001", "--ablate-probability", "0.25",
        "--harmful", "harmful.txt", "--harmless", "harmless.txt", "--seed", "3", "--system", "Be brief.", "--out", "hard",
    ]  # fmt: skip
