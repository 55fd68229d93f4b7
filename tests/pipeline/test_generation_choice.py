"""`--generation model`: the model's own sampling settings, seeded, named by every record, and asked for again by later verbs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from abliterate.chat.options import ChatOptions
from abliterate.commands.chat import chat
from abliterate.commands.evaluate import evaluate
from abliterate.commands.harden import harden_model
from abliterate.commands.reproduce import repeated_options
from abliterate.errors import InputError
from abliterate.pipeline.condition_options import SaidConditions, SaidTemplate
from abliterate.pipeline.conditions import settle, told_of
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.pipeline.run import Result, run
from abliterate.report.unlike import unlike
from abliterate.training.harden_options import HardenOptions
from fixtures.tiny_chat import TINY, hashes, in_float32

OWN = {"do_sample": True, "temperature": 1.7, "top_k": 40, "repetition_penalty": 1.2}
SHORT = EvaluateOptions(reply_tokens=8, n_prompts=8, look_alikes=None)


@pytest.fixture(scope="module")
def sampling(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model with sampling settings of its own."""
    folder = Path(shutil.copytree(TINY, tmp_path_factory.mktemp("sampling") / "tiny-chat"))
    kept = json.loads((folder / "generation_config.json").read_text())
    (folder / "generation_config.json").write_text(json.dumps({**kept, **OWN}))
    return folder


@pytest.fixture(scope="module")
def drawn(sampling: Path) -> Result:
    return run(in_float32(sampling.parent / "drawn", model=str(sampling), generation="model", layer=4, n_train=32))


@pytest.mark.slow
def test_the_record_names_it_and_it_is_repeated_to_the_bit(drawn: Result, sampling: Path, tmp_path: Path) -> None:
    assert drawn.manifest["generation"] == {"from": "model", "seed": 0, "settings": OWN}
    command = drawn.manifest["command"]
    assert command[command.index("--generation") + 1] == "model"
    options = repeated_options(
        drawn.manifest, ReproduceOptions(model=str(sampling), device="cpu"), drawn.out, tmp_path / "drawn"
    )
    assert options.generation == "model"
    again = run(options)
    assert again.manifest == drawn.manifest
    assert hashes(again.out) == hashes(drawn.out)


def test_greedy_runs_name_nothing_and_hear_nothing_of_it(result: Result, sampling: Path, tmp_path: Path) -> None:
    assert "generation" not in result.manifest
    assert "--generation" not in result.manifest["command"]
    options = in_float32(Path(), model=str(sampling))
    plain, own = evaluate(options, SHORT, None), evaluate(in_float32(Path()), SHORT, None)
    assert plain.model.sets == own.model.sets
    assert plain.settings["generation"] == "greedy"
    assert "seed" not in plain.settings


@pytest.mark.slow
def test_later_verbs_reply_as_the_run_did(drawn: Result) -> None:
    options, said = in_float32(Path(), model=str(drawn.out)), SaidConditions()
    settled = settle(said.on(options), said.said, [options.model])
    assert settled.options.generation == "model"
    assert "replies by the model's own sampling settings" in told_of(settled)
    first, second = (evaluate(settled.options, SHORT, None, settled=settled) for _ in range(2))
    assert first.settings["generation"] == "model"
    assert first.settings["seed"] == 0
    assert first.model.sets == second.model.sets
    greedy = settle(SaidConditions(generation="greedy").on(options), {"generation"}, [options.model])
    other = evaluate(greedy.options, SHORT, None, settled=greedy)
    assert other.model.sets != first.model.sets
    assert "generation: model in the run, greedy in the evaluation" in unlike(drawn.manifest, other.settings)
    assert not [line for line in unlike(drawn.manifest, first.settings) if line.startswith("generation")]


def test_a_conversation_is_drawn_as_the_run_was(drawn: Result) -> None:
    options = in_float32(Path(), model=str(drawn.out))

    def said(temperature: float = 0.0, **template: str) -> tuple[int, ...]:
        settings = ChatOptions(max_new_tokens=12, temperature=temperature)
        _, (one,) = chat(options, SaidTemplate(**template), settings)  # type: ignore[arg-type]
        return list(one.begin("Name three fruits"))[-1].tokens

    assert said() == said() == said(generation="model")
    assert said() != said(generation="greedy")
    assert said(0.5) == said(0.5, generation="greedy")
    with pytest.raises(InputError, match="leave one of them away"):
        said(0.5, generation="model")


def test_it_is_refused_where_it_decides_nothing(tmp_path: Path) -> None:
    options = in_float32(tmp_path / "out", generation="model")
    with pytest.raises(InputError, match="--generation has no part in --mode harden"):
        harden_model(options, HardenOptions(steps=1))
    served = EvaluateOptions(endpoint="http://127.0.0.1:1")
    with pytest.raises(InputError, match="--generation: a server"):
        served.check(in_float32(Path(), model="", generation="model"))
