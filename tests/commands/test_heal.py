"""The verb that heals an edited model."""

from __future__ import annotations

import copy
import json
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from abliterate.checkpoints.checkpoint import content_hash
from abliterate.commands.apply import apply
from abliterate.commands.export import save_others
from abliterate.commands.heal import digest_of
from abliterate.pipeline.run import Result
from abliterate.records.option import without_flag, words_of
from abliterate.records.training_card import training_card
from abliterate.training.heal_options import HealOptions
from fixtures.model_cards import metadata, tokens
from fixtures.tiny_chat import options
from fixtures.training_verbs import call, record_of

# peft asks transformers by a name that is on its way out.
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")


@pytest.fixture(scope="module")
def edited(result: Result, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An edited checkpoint, with its adapter beside, whose licence its card names."""
    wish = options(tmp_path_factory.mktemp("heal") / "edited", save=("checkpoint", "adapter"))
    out = Path(shutil.copytree(result.out, wish.out))
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


def test_the_command_has_a_flag_for_every_option() -> None:
    chosen = HealOptions("dpo", adapter=True, rank=4, learning_rate=1e-4, limit=20, seed=5)
    assert words_of(chosen) == [
        "--method", "dpo", "--adapter", "--lora-r", "4", "--learning-rate", "0.0001", "--limit", "20", "--seed", "5",
    ]  # fmt: skip
    assert without_flag(chosen) == {}
    one, other = ([{"text": text}] for text in ("a", "b"))
    assert digest_of(one) == digest_of(copy.deepcopy(one)) != digest_of(other)


@pytest.mark.slow
def test_an_edit_of_several_directions_is_healed_and_stays(edited: Path, rows: Path, tmp_path: Path) -> None:
    span = options(tmp_path / "span")
    apply(span, edited / "directions.safetensors", None, rows=["resid.4", "resid.6"])
    code, said, error = call(*heal_words(span.out, rows), "--out", str(tmp_path / "healed"), "--json")
    assert code == 0, error
    assert json.loads(said)["proof"]["drift"] <= json.loads(said)["proof"]["limit"]
    assert record_of(tmp_path / "healed" / "healed.json")["directions"] == ["resid.4", "resid.6"]
    assert "edited along 2 directions" in (tmp_path / "healed" / "README.md").read_text()
