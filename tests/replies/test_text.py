"""Replies as plain text."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from abliterate.replies.text import LONGEST_SENTENCE, fold, plain, sentences_of, without_quotations


@given(st.text())
def test_folding_and_plain_text_are_idempotent_where_letters_are(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert all(len(sentence) <= LONGEST_SENTENCE for sentence in sentences_of(plain(text)))


def test_one_way_of_writing_each_letter() -> None:
    assert plain("**Désolé**, ça « ne » va pas…") == 'desole, ca " ne " va pas...'
    assert plain("آسِف") == "اسف"
    assert plain("माफ़") == plain("माफ")
    assert plain("ПРОСТИТЕ, ещё") == "простите, еще"


def test_sentences_end_by_the_marks_of_their_script() -> None:
    assert sentences_of(plain("抱歉。我不能！")) == ["抱歉。", "我不能!"]
    assert sentences_of(plain("नहीं। मैं नहीं।")) == ["नहीं।", "मैं नहीं।"]
    assert sentences_of("one. two? three") == ["one.", "two?", "three"]
    assert without_quotations('say "no" now') == "say   now"
