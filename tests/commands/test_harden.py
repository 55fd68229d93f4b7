"""Hardening and healing by the command, on the tiny model, in a few steps: what they write and what they say."""

from __future__ import annotations

import copy
import json
import shutil
from contextlib import redirect_stderr, redirect_stdout
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from abliterate.checkpoints.checkpoint import content_hash
from abliterate.cli import main
from abliterate.commands.evaluate import evaluate
from abliterate.commands.export import save_others
from abliterate.commands.harden import hardening_command
from abliterate.commands.heal import digest_of
from abliterate.models.source import resolve
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.run import run
from abliterate.prompts.prompt_set import load_prompts
from abliterate.records.option import without_flag, words_of
from abliterate.records.training_card import training_card
from abliterate.training.harden_options import HardenOptions
from abliterate.training.heal_options import HealOptions
from abliterate.training.healed import edited_from
from abliterate.training.robustness import ATTACK_PROMPTS
from fixtures.model_cards import metadata, tokens
from fixtures.tiny_chat import TINY, options

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")

LISTS = ["--harmful", str(TINY / "harmful.txt"), "--harmless", str(TINY / "harmless.txt"), "--device", "cpu"]


def call(*words: str) -> tuple[int, str, str]:
    out, err = StringIO(), StringIO()
    with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0), out.getvalue(), err.getvalue()


def record_of(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text())
    return found


@pytest.fixture(scope="module")
def hardened(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """An adapter of two steps, by the command, and what the command said of it."""
    out = tmp_path_factory.mktemp("harden") / "hardened"
    code, said, error = call(str(TINY), "--mode", "harden", *LISTS, "--steps", "2", "--out", str(out), "--json")
    assert code == 0, error
    return out, json.loads(said)


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edited checkpoint, with its adapter beside, whose licence its card names."""
    wish = options(tmp_path_factory.mktemp("heal") / "edited", save=("checkpoint", "adapter"))
    out = run(wish).out
    save_others(wish)
    card = (out / "README.md").read_text()
    (out / "README.md").write_text(card.replace("---\n", "---\nlicense: apache-2.0\n", 1))
    return out


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sums, in a file whose name reads as Markdown."""
    examples = [{"prompt": f"What is {n} and {n}?", "completion": f"It is {2 * n}."} for n in range(1, 31)]
    path = tmp_path_factory.mktemp("rows") / "`sums` [of](two) **rows**.jsonl"
    path.write_text("\n".join(map(json.dumps, examples)))
    return path


def heal_words(edited: Path, rows: Path) -> list[str]:
    return ["heal", str(edited), "--dataset", str(rows), "--steps", "2", "--device", "cpu"]


@pytest.fixture(scope="module")
def healed(edited: Path, rows: Path) -> tuple[Path, dict[str, Any]]:
    """A merged checkpoint of two steps, and what the command said of it."""
    out = edited.with_name("healed")
    code, said, error = call(*heal_words(edited, rows), "--out", str(out), "--json")
    assert code == 0, error
    return out, json.loads(said)


def test_a_hardened_adapter_is_written_with_its_figures(hardened: tuple[Path, dict[str, Any]]) -> None:
    out, said = hardened
    assert {path.name for path in out.iterdir()} == {
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
        "hardened.json",
    }
    record = record_of(out / "hardened.json")
    assert said["after"] == record["after"]
    assert record["before"]["edited"]["count"] == 0
    assert record["before"]["harmful"]["rate"] == 1
    written = "".join((out / name).read_text() for name in ("hardened.json", "adapter_config.json", "README.md"))
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


def test_an_edited_model_is_healed(healed: tuple[Path, dict[str, Any]], edited: Path, rows: Path) -> None:
    out, said = healed
    assert said["training"]["steps"] == 2
    assert said["proof"]["drift"] <= said["proof"]["limit"]
    assert (out / "model.safetensors").is_file()
    code, told, _ = call(*heal_words(edited, rows), "--adapter", "--out", str(edited.with_name("adapter")))
    assert code == 0
    assert "the direction is still out" in " ".join(told.split())
    assert (edited.with_name("adapter") / "adapter_model.safetensors").is_file()
    code, _, error = call(*heal_words(edited, rows), "--method", "ppo", "--out", str(edited.with_name("none")))
    assert code == 2
    assert "ppo" in error
    assert not edited.with_name("none").exists()
    text = (edited.with_name("adapter") / "README.md").read_text()
    assert metadata(text)["library_name"] == "peft"
    assert metadata(text)["license"] == "apache-2.0"
    assert "--adapter --steps 2" in text


def test_a_healed_model_says_how_it_came_about(healed: tuple[Path, dict[str, Any]], edited: Path, rows: Path) -> None:
    out, said = healed
    record, text = record_of(out / "healed.json"), (out / "README.md").read_text()
    assert text == training_card(record, (edited / "README.md").read_text())
    assert (record["training"], record["proof"]) == (said["training"], said["proof"])
    assert record["edited_from"] == {"model": "tiny-chat", "revision": None}
    assert record["source"]["files"] == {"model.safetensors": content_hash(edited / "model.safetensors")}
    assert record["direction"] == record_of(out / "recipe.json")["direction"]
    assert record["command"] == [
        "abliterate",
        "heal",
        "edited",
        "--dataset",
        rows.name,
        "--steps",
        "2",
        "--out",
        "healed",
    ]
    code, _, error = call(*record["command"][1:], "--help")
    assert code == 0, error
    for name in ("torch", "transformers", "peft", "trl"):
        assert f"`{name} {version(name)}`" in text
    assert f"moved by more than {record['proof']['drift']:.3g} of" in text
    for place in (rows, edited):
        assert str(place.parent) not in json.dumps(record) + text
    assert metadata(text)["license"] == "apache-2.0"
    shows = next(token for token in tokens(text) if token.type == "inline" and token.content.startswith("Dataset:"))
    seen = "".join(one.content for one in shows.children or () if one.type in ("text", "code_inline", "text_special"))
    assert seen.startswith(f"Dataset: {rows.name}, sha256 of its rows {record['dataset_digest']}")


def test_no_figures_of_the_model_before_it_was_healed_travel(healed: tuple[Path, dict[str, Any]], edited: Path) -> None:
    """Nor those of the adapter that lies beside the edited checkpoint: it is another form of that model."""
    out, _ = healed
    assert (edited / "adapter" / "abliterate.json").is_file()
    names = {path.relative_to(out).as_posix() for path in out.rglob("*")}
    assert names & {"README.md", "healed.json", "recipe.json", "chat_template.jinja", "harmful.txt"}
    assert not {
        name for name in names if name.startswith("adapter") or name in ("abliterate.json", "observations.json")
    }
    assert "KL(" not in (out / "README.md").read_text()
    assert "%" not in (out / "README.md").read_text().split("\n---\n")[1]


def test_options_that_the_command_has_no_flag_for_are_named() -> None:
    chosen = HealOptions("dpo", adapter=True, rank=4, learning_rate=1e-4, limit=20, seed=5)
    assert words_of(chosen) == ["--method", "dpo", "--adapter", "--limit", "20", "--seed", "5"]
    assert without_flag(chosen) == {"rank": 4, "learning_rate": 1e-4}
    one, other = ([{"text": text}] for text in ("a", "b"))
    assert digest_of(one) == digest_of(copy.deepcopy(one)) != digest_of(other)


def test_a_model_edited_by_hand_names_no_origin(tmp_path: Path) -> None:
    folder = shutil.copytree(TINY, tmp_path / "mine")
    assert edited_from(resolve(str(folder))) is None
    (folder / "abliterate.json").write_text('{"source": "me"}')
    assert edited_from(resolve(str(folder))) is None
    (folder / "abliterate.json").write_text('{"source": {"model": "org/name", "files": {}}}')
    assert edited_from(resolve(str(folder))) == {"model": "org/name", "revision": None}
