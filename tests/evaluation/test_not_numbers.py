"""No figure is made of numbers that are not finite: whatever measures a broken model ends in one line."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from abliterate.activations.capture import Activations
from abliterate.activations.geometry import geometry
from abliterate.architectures.architecture import find_architecture
from abliterate.chat.stream import Reader
from abliterate.commands.evaluate import evaluate
from abliterate.directions.directions import Directions
from abliterate.directions.scores import final_states, first_token_log_probs, prepare_openings, refusal_score
from abliterate.directions.selection import select
from abliterate.errors import InputError
from abliterate.evaluation.divergence import along_replies
from abliterate.evaluation.observation import Observation, Reply, states_along
from abliterate.evaluation.statistics import json_number, mean_of
from abliterate.evaluation.text_loss import text_losses
from abliterate.models.gradient_memory import MemoryPlan
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.progress import SILENT
from abliterate.search.examples import DivergencePoint, OriginalReply
from abliterate.search.losses import EditLosses, TokenCount
from abliterate.search.variables import Variables
from fixtures.checkpoints import snapshot
from fixtures.models import random_model
from fixtures.tiny_chat import TINY, in_float32, tiny_chat

SEQUENCES = [(5, 9, 17, 31), (8, 23, 61, 7, 90), (12, 13, 14)]
SPOILT = 61
"""A token of the second prompt, whose embedding is the only one that is no number."""


def broken(value: float = math.nan) -> PreTrainedModel:
    model = random_model("llama", tie_word_embeddings=False)
    with torch.no_grad():
        model.model.embed_tokens.weight[SPOILT, 3] = value
    return model


def observed(model: PreTrainedModel) -> Observation:
    replies = tuple(Reply("a prompt", (40, 41), "") for _ in SEQUENCES)
    states = states_along(model, SEQUENCES, replies, "auto", None, SILENT)
    return Observation((), replies, states, Head(model))


def divergences(model: PreTrainedModel) -> object:
    return along_replies(observed(random_model("llama", tie_word_embeddings=False)), observed(model))


def losses_of(model: PreTrainedModel) -> EditLosses:
    return EditLosses(model, find_architecture(model), Head(model), MemoryPlan(1, False), TokenCount())


def searched(model: PreTrainedModel) -> object:
    ruler, answers = losses_of(model), [OriginalReply(one, (40, 41)) for one in SEQUENCES]
    edit = Variables({"mlp": torch.ones(4)}, torch.nn.functional.normalize(torch.ones(48), dim=0))
    return ruler.divergences(answers, ruler.states(answers), edit)


def gradients(model: PreTrainedModel) -> object:
    edit = Variables({"mlp": torch.ones(4)}, torch.nn.functional.normalize(torch.ones(48), dim=0))
    for one in edit.tensors():
        one.requires_grad_()
    places = [DivergencePoint(one, (40,)) for one in SEQUENCES]
    return losses_of(model).backward(places, [], [], edit, (1.0, 1.0))


def scored(model: PreTrainedModel) -> object:
    question = prepare_openings(model, SEQUENCES, [(40,), (41, 42)])
    return refusal_score(Head(model), question, final_states(model, question))


def chosen(model: PreTrainedModel) -> object:
    """The direction that is ablated is fine; what the model predicts is not."""
    directions = Directions(torch.randn(1, 5, 48, generator=torch.Generator().manual_seed(1)), (-1,), "projected")
    return select(LiveModel.of(model, tiny_chat()), directions, [(40,)], SEQUENCES[::2], SEQUENCES)


MEASURES: dict[str, tuple[Callable[[PreTrainedModel], object], str]] = {
    "divergence": (divergences, "^harmless prompt 2: "),
    "text": (lambda model: text_losses(model, SEQUENCES), "^window 2 of 512 tokens of the text: "),
    "score": (scored, "^prompt 2 of those that are scored: "),
    "predictions": (lambda model: first_token_log_probs(model, Head(model), SEQUENCES), "^harmless prompt 2 of the choice: "),
    "choice": (chosen, "^prompt 2 of those that are scored: |^harmless prompt 2 of the choice: "),
    "search": (searched, "^harmless prompt 2 of the search: "),
    "gradient": (gradients, "^harmful example 2 of a step of the search: "),
    "chat": (lambda model: Reader(model).logits(SEQUENCES[1]), "^"),
}  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("name", MEASURES)
def test_the_prompt_whose_logits_are_no_numbers_is_named(name: str, value: float) -> None:
    measure, start = MEASURES[name]
    with pytest.raises(InputError, match=f"({start}).*NaN or infinite; try --dtype float32, or check the checkpoint"):
        measure(broken(value))
    whole = random_model("llama", tie_word_embeddings=False)
    with suppress(InputError) if name == "choice" else pytest.MonkeyPatch.context():  # random weights refuse nothing
        measure(whole)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_mean_of_what_is_no_number_is_none(value: float) -> None:
    with pytest.raises(InputError, match=r"value 2 of 3 of a figure is (nan|-?inf): it cannot be reported"):
        mean_of([1.0, value, 2.0])
    assert json_number(value) is None
    assert mean_of([]).to_json()["mean"] is None


def test_a_geometry_of_what_is_no_number_is_none() -> None:
    harmful = torch.randn(4, 1, 2, 6)
    harmless = harmful.index_fill(0, torch.tensor([2]), torch.inf)
    for pair in ((harmful, harmless), (harmless, harmful)):
        with pytest.raises(InputError, match=r"activations of prompt 3 are NaN or infinite at resid\[0\]"):
            geometry(*(Activations(one, (-1,)) for one in pair), -1)


@pytest.mark.parametrize("side", ["model", "against"])
def test_an_evaluation_of_a_broken_model_writes_no_figure(side: str, tmp_path: Path) -> None:
    """One infinity in the last norm: every divergence was 0, the best that there is."""
    for name, content in snapshot(TINY).items():
        (tmp_path / name).write_bytes(content)
    weights = load_file(TINY / "model.safetensors")
    weights["model.norm.weight"] = weights["model.norm.weight"].index_fill(0, torch.tensor([3]), torch.inf)
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    names = (str(tmp_path), str(TINY)) if side == "model" else (str(TINY), str(tmp_path))
    wanted = EvaluateOptions(reply_tokens=8, n_prompts=8)
    with pytest.raises(
        InputError, match=r"^(harmful|harmless|look-alike) prompt \d+, token 1 of the reply: .*NaN or infinite"
    ):
        evaluate(in_float32(tmp_path / "out", model=names[0]), wanted, names[1])


def test_what_the_tiny_model_says_is_made_of_numbers() -> None:
    """Padding is masked out, and what a finished row goes on to say is not looked at."""
    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY)
    ids = tokenizer("Hello there")["input_ids"]
    assert bool(torch.isfinite(Reader(model).logits(ids)).all())
