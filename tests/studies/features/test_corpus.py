"""Texts of a corpus: user's words and reply, without the template's tokens, split by prompt."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.prompt_set import side_of
from abliterate.storage.record_log import RecordLog
from abliterate.studies.features.corpus import Corpus, corpus_of, place_of, prompts_of
from fixtures.tiny_chat import TINY

SPECS = (str(TINY / "harmful.txt"), str(TINY / "harmless.txt"))


def test_the_words_of_the_user_and_the_reply_are_kept(tiny_live: LiveModel, corpus: Corpus) -> None:
    for passage in corpus.passages[:8]:
        span = passage.span
        said = tiny_live.tokenizer.decode([span.tokens[place] for place in span.places], skip_special_tokens=True)
        assert said.replace(" ", "").startswith(passage.prompt.replace(" ", ""))
        assert passage.said.replace(" ", "") in said.replace(" ", "")
        assert len(span.places) < len(passage.whole.places)
        assert passage.ends.places == (passage.end - 1, len(passage.tokens) - 1)


def test_sides_are_by_the_prompt_and_harmful_ones_are_refused(corpus: Corpus) -> None:
    report = corpus.part("report")
    assert 0 < len(report) < len(corpus)
    assert {side_of(one.prompt) for one in report.passages} == {"report"}
    assert 20 <= sum(one.refused for one in corpus.passages) <= 44
    assert corpus.public == ("harmful.txt", "harmless.txt")
    assert corpus.digest != report.digest


def test_lists_are_mixed_and_twice_is_once() -> None:
    few = prompts_of(SPECS, 24)
    assert len(few) == 24
    harmful = set(prompts_of(SPECS[:1]))
    assert sum(one in harmful for one in few) == 12
    assert len(prompts_of([SPECS[0], SPECS[0]])) == len(harmful)


def test_too_few_texts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "few.txt"
    path.write_text("\n".join(f"Tell me about {number}." for number in range(10)))
    with pytest.raises(InputError, match="--corpus holds 10 texts; give at least 24"):
        prompts_of([str(path)])
    with pytest.raises(InputError, match="on the report side of the split"):
        Corpus((), ()).part("report")


def test_replies_are_kept_for_a_command_that_goes_on(tiny_live: LiveModel, tmp_path: Path) -> None:
    kept = RecordLog(tmp_path / "units.jsonl")
    first = corpus_of(tiny_live, SPECS, prompts_of(SPECS, 24), 4, kept)
    assert len(kept) == 1
    assert corpus_of(tiny_live, SPECS, prompts_of(SPECS, 24), 4, RecordLog(tmp_path / "units.jsonl")) == first
    assert corpus_of(tiny_live, SPECS, prompts_of(SPECS, 24), 0).passages[0].reply == ()


def test_words_that_the_tokenizer_changes_are_not_found(tiny_live: LiveModel, monkeypatch: pytest.MonkeyPatch) -> None:
    prompt = "How do I bake bread?"
    assert place_of(tiny_live, prompt) is not None
    monkeypatch.setattr("abliterate.prompts.texts.TokenText.text", property(lambda self: "how do i bake bread?"))
    assert place_of(tiny_live, prompt) is None
    with pytest.raises(InputError, match="changes the words of all but 0 prompts"):
        corpus_of(tiny_live, SPECS, prompts_of(SPECS, 24), 4)
