"""Every public name teaches by an example, and each example runs as it is printed."""

from __future__ import annotations

import copy
import doctest
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import abliterate
from abliterate import capture, difference_in_means, load_prompts
from abliterate.models.generation import generate
from abliterate.pipeline.run import Result
from abliterate.prompts.chat_format import ChatFormat
from fixtures.tiny_chat import TINY

OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


@pytest.fixture(scope="module")
def prepared() -> dict[str, Any]:
    """What the examples find: the tiny model and its tokenizer, prompts of both sides, and their directions."""
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    sides = {side: load_prompts(str(TINY / f"{side}.txt")).first(32) for side in ("harmful", "harmless")}

    def reply(live: Any, prompt: str) -> str:
        (tokens,) = generate(live, tokenizer, ChatFormat(tokenizer).encode([prompt]), 24)
        return str(tokenizer.decode(tokens))

    directions = difference_in_means(*(capture(model, tokenizer, side) for side in sides.values()))
    return {
        "model": model,
        "tokenizer": tokenizer,
        **sides,
        "directions": directions,
        "reply": reply,
        "tiny": str(TINY),
    }


LONG = {"clusters"}
"""Examples that take a quarter of a minute."""


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=[pytest.mark.slow] if one in LONG else []) for one in abliterate.__all__]
)
def test_the_example_runs_as_it_is_printed(
    name: str,
    prepared: dict[str, Any],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = getattr(abliterate, name).__doc__
    own = {"model": copy.deepcopy(prepared["model"]), "torch": torch, "Path": Path, "out": tmp_path / "edited"}
    if "result." in text:
        result: Result = request.getfixturevalue("result")
        own["result"] = result
    names = {public: getattr(abliterate, public) for public in abliterate.__all__}
    example = doctest.DocTestParser().get_doctest(text, {**names, **prepared, **own}, name, None, None)
    assert example.examples, f"{name} has no example"
    said: list[str] = []
    doctest.DocTestRunner(optionflags=OPTIONS).run(example, out=said.append, clear_globs=False)
    assert not said, "".join(said)
