"""Nothing becomes float64 on a device: Apple's GPUs, which `--device auto` takes, have none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedModel

from abliterate.activations.capture import Activations, capture
from abliterate.activations.geometry import geometry
from abliterate.architectures.architecture import find_architecture
from abliterate.directions.methods import projected_difference_in_means
from abliterate.directions.scores import final_states, prepare_openings, refusal_score
from abliterate.directions.selection import select
from abliterate.edits.in_place import orthogonalize
from abliterate.errors import InputError
from abliterate.evaluation.divergence import diverge
from abliterate.evaluation.observation import Observation, Reply, states_along
from abliterate.evaluation.text_loss import text_losses
from abliterate.interventions import ablated, added
from abliterate.interventions.affine import affine, mean_component
from abliterate.interventions.recipe import Recipe
from abliterate.models.generation import generate
from abliterate.models.gradient_memory import MemoryPlan
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.progress import SILENT
from abliterate.projection import frobenius, orthonormal_basis, unit_rows
from abliterate.prompts.chat_format import ChatFormat
from abliterate.proofs.stream import logit_difference, relative_component, streams
from abliterate.search.examples import DivergencePoint, OriginalReply
from abliterate.search.losses import EditLosses, TokenCount
from abliterate.search.variables import Variables
from abliterate.training.healed import healed_components
from fixtures.device import DeviceWithoutFloat64
from fixtures.models import random_model
from fixtures.tiny_chat import tiny_chat

SEQUENCES = [(5, 9, 17, 31), (8, 23, 61, 7, 90), (12, 13, 14)]


# Made here, outside of the stand-in: on the device, as far as it knows.
VECTOR = torch.randn(48, generator=torch.Generator().manual_seed(7))
BASIS = torch.randn(2, 48, generator=torch.Generator().manual_seed(8))
HARMFUL, HARMLESS = (
    Activations(torch.randn(6, 2, 5, 48, generator=torch.Generator().manual_seed(seed)), (-2, -1)) for seed in (0, 1)
)


def found(model: PreTrainedModel) -> object:
    return projected_difference_in_means(HARMFUL, HARMLESS)


def placed(model: PreTrainedModel) -> object:
    return geometry(HARMFUL, HARMLESS, -1)


def aimed(model: PreTrainedModel) -> object:
    target = mean_component(HARMFUL, VECTOR)
    with affine(model, VECTOR, float(target[2])):
        return model(torch.tensor([[4, 5, 6]])).logits


def hooked(model: PreTrainedModel) -> object:
    with ablated(model, 2 * VECTOR), added(model, VECTOR, 2):
        return model(torch.tensor([[4, 5, 6]])).logits


def proved(model: PreTrainedModel) -> object:
    architecture = find_architecture(model)
    own = streams(model, architecture, SEQUENCES)
    healed_components(model, architecture, unit_rows(VECTOR), Recipe.uniform())
    return relative_component(model, architecture, unit_rows(VECTOR), SEQUENCES), logit_difference(own[1], own[2])


def searched(model: PreTrainedModel) -> object:
    ruler = EditLosses(model, find_architecture(model), Head(model), MemoryPlan(1, False), TokenCount())
    edit = Variables({"mlp": torch.ones(4)}, torch.nn.functional.normalize(VECTOR, dim=0))
    answers = [OriginalReply(one, (40, 41)) for one in SEQUENCES]
    states = ruler.states(answers)
    for one in edit.tensors():
        one.requires_grad_()
    ruler.backward([DivergencePoint(one, (40,)) for one in SEQUENCES], answers, states, edit, (1.0, 1.0))
    return ruler.divergences(answers, states, edit.copy())


def scored(model: PreTrainedModel) -> object:
    question = prepare_openings(model, SEQUENCES, [(40,), (41, 42)])
    refusal_score(Head(model), question, final_states(model, question))
    try:
        live = LiveModel.of(model, tiny_chat())
        return select(live, projected_difference_in_means(HARMFUL, HARMLESS), [(40,)], SEQUENCES, SEQUENCES)
    except InputError:
        return None  # random weights refuse nothing


def measured(model: PreTrainedModel) -> object:
    replies = tuple(Reply("a prompt", (40, 41), "") for _ in SEQUENCES)
    states = states_along(model, SEQUENCES, replies, "auto", None, SILENT)
    seen = Observation((), replies, states, Head(model))
    return diverge(seen, seen), text_losses(model, SEQUENCES)


def edited(model: PreTrainedModel) -> object:
    with torch.no_grad():
        model.model.layers[0].mlp.down_proj.weight.mul_(1e22)  # whose squares overflow in float32
    frobenius(model.model.layers[0].mlp.down_proj.weight.detach())
    orthonormal_basis(BASIS)
    return orthogonalize(model, BASIS)


WORK: dict[str, Callable[[PreTrainedModel], object]] = {
    "difference in means": found, "geometry": placed, "affine": aimed, "hooks": hooked, "proof": proved,
    "search": searched, "scores": scored, "figures": measured, "orthogonalize": edited,
}  # fmt: skip


@pytest.mark.parametrize("name", WORK)
@pytest.mark.parametrize("family", ["llama", "gemma3_text"])
def test_no_float64_on_the_device(name: str, family: str) -> None:
    """In the second family gains stand behind the writers, which are folded into the direction in float64."""
    model = random_model(family, tie_word_embeddings=False)
    with DeviceWithoutFloat64():
        WORK[name](model)


def test_capture_and_replies_need_none(tiny_model: tuple[PreTrainedModel, ChatFormat]) -> None:
    model, chat = tiny_model
    with DeviceWithoutFloat64() as device:
        harmful, harmless = (capture(model, chat, [f"{word} one", f"{word} two"]) for word in ("Make", "Take"))
        projected_difference_in_means(harmful, harmless)
        assert device.home
        generate(model, chat.tokenizer, chat.encode(["Hello"]), 4)


@pytest.fixture
def tiny_model() -> tuple[PreTrainedModel, ChatFormat]:
    from transformers import AutoModelForCausalLM

    from fixtures.tiny_chat import TINY

    model = AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval()
    return model, ChatFormat(AutoTokenizer.from_pretrained(TINY))


def test_the_stand_in_refuses_what_the_device_does() -> None:
    given = torch.ones(3)
    with DeviceWithoutFloat64():
        for wide in (
            Tensor.double,
            lambda one: one.to(torch.float64),
            lambda one: one.new_zeros(2, dtype=torch.float64),
        ):
            with pytest.raises(TypeError, match="float64"):
                wide(given)
        assert (given * 2).cpu().double().mean().dtype == torch.float64
        assert torch.zeros(2, dtype=torch.float64).dtype == torch.float64
        with pytest.raises(TypeError, match="float64"):
            torch.zeros(2, dtype=torch.float64, device=given.device)
