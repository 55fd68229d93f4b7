"""What is asked of whom, and how replies are cut."""

from __future__ import annotations

from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.studies.positions.listen import Listening, judged, listen, safe_sentence


def test_a_reply_is_cut_into_three_sentences_at_most() -> None:
    reply = judged((1, 2), "Yes. I can't help with that. No. More.", "en", safe_sentence)
    assert reply.sentences == ("Yes.", "I can't help with that.", "No.")
    assert reply.start == 2
    assert judged((), "", "en", safe_sentence).start is None


def test_samples_are_drawn_where_vectors_are_made_and_a_form_refuses(tiny_live: LiveModel) -> None:
    phrases = load_phrases("builtin:phrases-tiny").first(16)
    asked = Listening(tokens=12, samples=2, seed=0, safety=safe_sentence)
    heard, rows = listen(tiny_live, phrases, load_forms().choose(["question", "raw-closed"]), asked)
    question, raw = heard["question"], heard["raw-closed"]
    assert all(len(case.samples) == (2 if case.phrase.split == "train" else 0) for case in question.harmful)
    assert not any(case.samples for case in raw.harmful), "nothing there is refused"
    assert all((case.greedy is not None) == (case.phrase.split == "report") for case in question.harmless)
    assert question.starts == (1,) * 16
    assert all(case.share == 1 for case in question.of("harmful", "train"))
    texts = [row["text"] for row in rows if row["form"] == "question" and row["sample"] == 0]
    assert texts[0] == question.harmful[0].greedy.text  # type: ignore[union-attr]
    assert len(rows) == len({tuple(row[name] for name in ("form", "side", "phrase", "sample")) for row in rows})
