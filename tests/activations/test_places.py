"""Activations at places are what the model computes there, however the texts are batched."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from abliterate.activations import places
from abliterate.activations.cache import ActivationCache
from abliterate.activations.capture import capture
from abliterate.activations.places import PlacedActivations, capture_places
from abliterate.errors import InputError
from abliterate.interventions import added
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.prompts.texts import Text, texts_of
from abliterate.replies.places import with_reply
from abliterate.storage.record_log import Unfinished
from fixtures.device import DeviceWithoutFloat64
from fixtures.models import random_model
from fixtures.tiny_chat import TINY, tiny_chat

NAMES = ("phrase_start", "phrase_end", "instruction_end", "prompt_end", "reply[0]", "sentence_end[0]", "reply_end")


@pytest.fixture(scope="module")
def live() -> LiveModel:
    return LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())


@pytest.fixture(scope="module")
def texts() -> list[Text]:
    chat, phrases = tiny_chat(), load_phrases().first(3)
    reply = chat.tokenizer("That is not for me. So ask.", add_special_tokens=False)["input_ids"]
    asked = [
        text
        for name in ("question", "reply-open", "raw-open")
        for text in texts_of(chat, load_forms()[name], phrases, "harmful")
    ]
    return [with_reply(text, reply[: len(reply) - row % 2], chat.tokenizer) for row, text in enumerate(asked)]


def plainly(model: PreTrainedModel, text: Text, names: tuple[str, ...]) -> torch.Tensor:
    """What transformers itself returns, one text at a time: [layers, places, d_model], the last layer after the final norm."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor([text.tokens]), output_hidden_states=True)
    rows = [text.places[name] for name in names]
    return torch.stack([states[0, rows] for states in output.hidden_states])


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count the batches that run."""
    counted = Counter[str]()
    own = places.final_hidden

    def counting(*arguments: Any, **named: Any) -> Any:
        counted["batches"] += 1
        return own(*arguments, **named)

    monkeypatch.setattr(places, "final_hidden", counting)
    return counted


def test_it_is_what_the_model_computes_at_those_places(live: LiveModel, texts: list[Text]) -> None:
    found = capture_places(live, texts, NAMES)
    assert found.resid.shape == (9, live.architecture.depth + 1, len(NAMES), live.architecture.d_model)
    for row, text in enumerate(texts):
        expected = plainly(live.model, text, NAMES)
        assert torch.allclose(found.resid[row, :-1], expected[:-1], atol=1e-4)
        assert torch.allclose(live.model.model.norm(found.resid[row, -1]), expected[-1], atol=1e-3)


def test_it_holds_for_every_family(model: PreTrainedModel) -> None:
    drawn = torch.Generator().manual_seed(3)
    texts = []
    for length in (5, 9, 4, 13, 9):
        ids = torch.randint(3, 97, (length,), generator=drawn).tolist()
        texts.append(Text((7, 8, *ids), {"a": 2 + length % 3, "b": length + 1, "c": 2}))
    live = LiveModel.of(model, tiny_chat())
    found = capture_places(replace(live, batch_size=2), texts, ("a", "b", "c"))
    for row, text in enumerate(texts):
        expected = plainly(model, text, ("a", "b", "c"))
        assert torch.allclose(found.resid[row, :-1], expected[:-1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [1, 2, 9])
def test_batches_and_padding_change_nothing_beyond_rounding(live: LiveModel, texts: list[Text], size: int) -> None:
    expected = capture_places(live, texts, NAMES)
    found = capture_places(replace(live, batch_size=size), list(reversed(texts)), NAMES)
    assert torch.allclose(found.resid.flip(0), expected.resid, atol=1e-4)


def test_places_inside_of_what_all_texts_share_are_seen(live: LiveModel) -> None:
    shared = tiny_chat().encode(["How do I bake bread?"])[0]
    texts = [Text((*shared, last), {"first": 0, "last": len(shared)}) for last in (40, 50, 60)]
    found = capture_places(live, texts, ("first", "last"))
    for row, text in enumerate(texts):
        assert torch.allclose(found.resid[row, :-1], plainly(live.model, text, ("first", "last"))[:-1], atol=1e-4)


def test_it_agrees_with_capture_at_the_template(live: LiveModel) -> None:
    phrases = load_phrases().part("select").first(6)
    form = load_forms()["question"]
    expected = capture(live.model, live.chat, [form.fill(one.harmless).content for one in phrases])
    names = [str(place) for place in live.chat.positions()]
    found = capture_places(live, texts_of(live.chat, form, phrases, "harmless"), names)
    assert torch.allclose(found.resid.transpose(1, 2), expected.resid, atol=1e-4)
    assert torch.allclose(found.mean().transpose(0, 1), expected.mean(), atol=1e-4)
    assert found.mean().dtype == torch.float64


def test_layers_are_chosen_in_the_order_that_is_asked_for(live: LiveModel, texts: list[Text]) -> None:
    every, some = (capture_places(live, texts, NAMES, layers) for layers in (None, (5, 2)))
    assert some.layers == (5, 2)
    assert torch.equal(some.resid, every.resid[:, [5, 2]])
    assert torch.equal(some.at("prompt_end", 2), every.resid[:, 2, 3])
    assert torch.equal(some.rows([3, 1]).resid, some.resid[[3, 1]])


def test_interventions_take_part(live: LiveModel, texts: list[Text]) -> None:
    vector = torch.randn(live.architecture.d_model, generator=torch.Generator().manual_seed(1))
    plain = capture_places(live, texts, NAMES)
    with added(live.model, vector, 3):
        moved = capture_places(live, texts, NAMES)
    assert torch.allclose(moved.resid[:, :3], plain.resid[:, :3])
    assert not torch.allclose(moved.resid[:, 4:], plain.resid[:, 4:])


def test_what_is_cached_is_not_computed_again(
    live: LiveModel, texts: list[Text], tmp_path: Path, forwards: Counter[str]
) -> None:
    cache = ActivationCache(tmp_path / "cache", "weights")
    first = capture_places(live, texts, NAMES, cache=cache)
    ran = forwards["batches"]
    again = capture_places(live, texts, NAMES, cache=cache)
    assert forwards["batches"] == ran
    assert torch.equal(first.resid, again.resid)
    assert again.names == NAMES
    for changed in (
        (texts, NAMES[:3], None),
        (texts[1:], NAMES, None),
        (texts, NAMES, (1, 2)),
        (texts, NAMES[::-1], None),
    ):
        before = forwards["batches"]
        capture_places(live, changed[0], changed[1], changed[2], cache=cache)
        assert forwards["batches"] > before


def test_an_interrupted_capture_goes_on(
    live: LiveModel, texts: list[Text], tmp_path: Path, forwards: Counter[str]
) -> None:
    small = replace(live, batch_size=2)
    expected = capture_places(small, texts, NAMES)
    forwards.clear()
    capture_places(small, texts, NAMES, kept=Unfinished(tmp_path / "parts"))
    parts = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(parts) == forwards["batches"] == 5
    parts[1].unlink()
    cache = ActivationCache(tmp_path / "cache", "weights")
    again = capture_places(small, texts, NAMES, kept=Unfinished(tmp_path / "parts"), cache=cache)
    assert forwards["batches"] == 6
    assert torch.equal(again.resid, expected.resid)
    assert not list((tmp_path / "parts").glob("*.safetensors"))


def test_the_device_needs_no_float64(texts: list[Text]) -> None:
    live = LiveModel.of(random_model("llama"), tiny_chat())
    with DeviceWithoutFloat64():
        capture_places(live, [Text((5, 9, 17), {"end": 2}), Text((8, 23), {"end": 1})], ("end",)).mean()


def test_a_place_that_a_text_lacks_is_one_line(live: LiveModel, texts: list[Text]) -> None:
    short = Text(texts[4].tokens, {"prompt_end": 3})
    with pytest.raises(
        InputError, match=r"text 3 of 3 has no place sentence_end\[0\]; it has prompt_end: capture only"
    ):
        capture_places(live, [*texts[:2], short], ("prompt_end", "sentence_end[0]"))
    with pytest.raises(InputError, match="nothing to capture: 0 texts at 1 places"):
        capture_places(live, [], ("prompt_end",))
    with pytest.raises(InputError, match="nothing to capture: 1 texts at 0 places"):
        capture_places(live, texts[:1], ())


def test_what_was_not_captured_is_one_line(live: LiveModel, texts: list[Text]) -> None:
    found = PlacedActivations(torch.zeros(2, 1, 1, 4), (3,), ("prompt_end",))
    with pytest.raises(InputError, match="the place reply_end was not captured; there are prompt_end"):
        found.at("reply_end", 3)
    with pytest.raises(InputError, match=r"resid\[4\] was not captured; there are 3"):
        found.at("prompt_end", 4)
    with pytest.raises(InputError, match=r"--layer 9 is out of range; the model has resid\[0\] to resid\[8\]"):
        capture_places(live, texts, NAMES, (2, 9))
    with pytest.raises(InputError, match="no layer is asked for"):
        capture_places(live, texts, NAMES, ())


def test_activations_that_are_not_numbers_are_refused() -> None:
    model = random_model("llama")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"text 1 are NaN or infinite at resid\[2\], place end"):
        capture_places(LiveModel.of(model, tiny_chat()), [Text((5, 9, 17), {"end": 2})], ("end",), (0, 2, 3))


def test_texts_that_the_model_cannot_read_are_named() -> None:
    live = LiveModel.of(random_model("gpt2"), tiny_chat())
    with pytest.raises(InputError, match=r"has the token 97 .*the embedding ends at 96"):
        capture_places(live, [Text((5, 97), {"end": 1})], ("end",))
    with pytest.raises(InputError, match=r"takes 80 tokens .*64 positions"):
        capture_places(live, [Text((5,) * 80, {"end": 1})], ("end",))
