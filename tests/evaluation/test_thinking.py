"""Both modes of a model that thinks."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.architectures.architecture import find_architecture
from abliterate.evaluation.thinking import Thinking, observe_thinking
from abliterate.models.live_model import LiveModel
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.think_blocks import Thought
from fixtures.thinker import ROOM, thinker
from fixtures.tiny_chat import TINY

PROMPTS = {
    side: (TINY / f"{side}.txt").read_text(encoding="utf-8").splitlines()[:6] for side in ("harmful", "harmless")
}


@pytest.fixture(scope="module")
def live() -> LiveModel:
    model = AutoModelForCausalLM.from_pretrained(thinker(), dtype=torch.float32).eval()
    plain = ChatFormat(AutoTokenizer.from_pretrained(thinker()), thinking="on")
    blocks = plain.think_blocks(PROMPTS["harmless"])
    thoughts = {block.opened: Thought(tuple(range(300, 310)), ended=True) for block in blocks}
    chat = ChatFormat(plain.tokenizer, thinking="on", thoughts=thoughts)
    return LiveModel(model, chat, find_architecture(model))


def test_a_thought_that_does_not_end_is_neither_refused_nor_answered(live: LiveModel) -> None:
    usual = observe_thinking(live, PROMPTS, "harmless", ROOM).modes["harmful"]
    assert (usual.unfinished.count, usual.on.count, usual.off.count) == (0, 6, 6)
    cut = observe_thinking(live, PROMPTS, "harmless", -28).modes["harmful"]  # with the room of a reply: four tokens
    assert (cut.on.count, cut.unfinished.count, cut.unfinished.total) == (0, 6, 6)
    assert cut.off == usual.off


def test_a_model_diverges_over_thoughts_where_it_was_changed_and_not_elsewhere(live: LiveModel) -> None:
    seen = observe_thinking(live, PROMPTS, "harmless", ROOM)
    assert [len(reply.tokens) for reply in seen.along.harmless] == [10] * 6
    changed = copy.deepcopy(live.model)
    with torch.no_grad():
        changed.get_decoder().layers[5].mlp.down_proj.weight.mul_(0.5)
    other = observe_thinking(replace(live, model=changed), PROMPTS, "harmless", ROOM)
    assert Thinking.of(ROOM, seen, other).divergence.value > 1e-3
    record = Thinking.of(ROOM, seen, seen).to_json()
    assert record["kl_over_thoughts"]["mean"] == pytest.approx(0, abs=1e-6)
    assert record["room"] == ROOM
    assert record["original"] == record["edited"]
    assert {*record["original"]["harmless"]} == {"off", "on", "unfinished"}
