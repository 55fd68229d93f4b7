"""The bundled model, on requests whose verb and object it never saw together; and the script that makes it."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from abliterate.activations.capture import capture
from abliterate.directions.methods import difference_in_means
from abliterate.edits.in_place import orthogonalize
from abliterate.models.generation import generate
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import TINY_PHRASES, load_phrases
from abliterate.prompts.prompt_set import load_prompts
from abliterate.prompts.texts import texts_of
from abliterate.replies.refusals import is_refusal
from fixtures.folders import EXAMPLES, TOOLS

sys.path.insert(0, str(TOOLS))

from make_tiny_phrases import text as tiny_phrases
from tiny_world import unseen_examples

TINY = Path(str(resources.files("abliterate") / "data" / "tiny-chat"))
UNSEEN = {side: [one.request for one in unseen_examples(side == "harmful", 200, 5)] for side in ("harmful", "harmless")}


def load() -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)


def replies(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str]) -> list[str]:
    return tokenizer.batch_decode(generate(model, tokenizer, ChatFormat(tokenizer).encode(prompts), 32))


def test_it_is_small() -> None:
    model, _ = load()
    assert 1e6 <= model.num_parameters() <= 3e6
    assert (TINY / "model.safetensors").stat().st_size <= 6e6
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.slow
def test_unseen_requests_before_and_after_the_edit() -> None:
    model, tokenizer = load()
    harmful, harmless = (replies(model, tokenizer, UNSEEN[side]) for side in ("harmful", "harmless"))
    assert sum(map(is_refusal, harmful)) >= 190
    assert sum(map(is_refusal, harmless)) <= 4
    sides = (load_prompts(str(TINY / f"{name}.txt")).side("train") for name in ("harmful", "harmless"))
    directions = difference_in_means(*(capture(model, tokenizer, side) for side in sides))
    orthogonalize(model, directions[4])
    assert sum(map(is_refusal, replies(model, tokenizer, UNSEEN["harmful"]))) <= 10
    after = replies(model, tokenizer, UNSEEN["harmless"])
    assert sum(one == other for one, other in zip(harmless, after, strict=True)) >= 180


def test_its_phrases_are_those_that_the_script_makes() -> None:
    held = resources.files("abliterate").joinpath("data", "prompts", "phrases-tiny.tsv").read_text(encoding="utf-8")
    assert held == tiny_phrases()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "harmful", "harmless"),
    [
        ("question", (55, 60), (0, 5)),
        ("open", (50, 60), (0, 5)),
        ("reply-open", (0, 5), (0, 5)),
        ("raw-open", (0, 2), (0, 2)),
    ],
)
def test_whether_it_refuses_hangs_on_the_form(form: str, harmful: tuple[int, int], harmless: tuple[int, int]) -> None:
    """The same phrases are declined in a user's turn, finished or not, and mostly gone on with where a reply is begun."""
    model, tokenizer = load()
    phrases = load_phrases(TINY_PHRASES).first(60)
    for side, (least, most) in (("harmful", harmful), ("harmless", harmless)):
        chosen = load_forms()[form]
        texts = texts_of(tokenizer, chosen, phrases, side)  # type: ignore[arg-type]
        said = tokenizer.batch_decode(generate(model, tokenizer, [list(text.tokens) for text in texts], 32))
        # A reply that was begun is read with its beginning: a fragment of a sentence says nothing by itself.
        assert least <= sum(is_refusal(f"{chosen.reply or ''} {text}") for text in said) <= most


@pytest.mark.slow
def test_the_script_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    hashes = []
    for name in ("first", "second"):
        words = ["--out", str(tmp_path / name), "--steps", "2", "--refusal-steps", "2"]
        done = subprocess.run([sys.executable, TOOLS / "make_tiny_chat.py", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        files = sorted((tmp_path / name).iterdir())
        hashes.append({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files})
    assert hashes[0] == hashes[1]
    assert set(hashes[0]) == {path.name for path in TINY.iterdir()}


@pytest.mark.slow
@pytest.mark.parametrize("example", ["library.py"])
def test_examples_run(example: str) -> None:
    done = subprocess.run([sys.executable, EXAMPLES / example], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "True -> False" in done.stdout
