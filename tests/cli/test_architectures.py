"""How the list of architectures is summed up."""

from __future__ import annotations

from abliterate.cli.architectures import architectures_json, counted, summary
from abliterate.proofs.census import Entry


def test_what_proved_types_have_in_common() -> None:
    assert summary(Entry("llama", "proved")) == "plain"
    assert summary(Entry("mixtral", "proved", experts="fused")) == "fused experts"
    assert summary(Entry("olmo", "proved", experts="fused", gains=True)) == "fused experts, gains behind writers"


def test_a_reason_is_said_without_place_and_figures() -> None:
    told = Entry("openai-gpt", "refused", "model.layers.0: its norm is over the sum (post-LN); use hooks")
    assert summary(told) == "its norm is over the sum"


def test_types_are_counted_by_status() -> None:
    entries = [Entry("llama", "proved"), Entry("no-text-model", "proved"), Entry("openai-gpt", "refused")]
    assert counted("text", entries, True, ("proved", "refused")) == "text: 1 proved, 1 refused."


def test_all_of_them_as_json() -> None:
    shown = architectures_json([Entry("llama", "proved")])
    assert shown["architectures"][0]["status"] == "proved"
    assert shown["transformers"]
