"""Texts: their tokens are those that a chat sees, and their places are where the words are."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as any_of
from tokenizers import Tokenizer, decoders, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

from abliterate.errors import InputError
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.forms import Form, load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.prompts.texts import Text, TokenText, texts_of
from fixtures.tiny_chat import tiny_chat

CHAT = tiny_chat()
FORMS = [(form, language) for language in ("en", "ko") for form in load_forms(language=language)]


def said(text: Text, first: str, last: str) -> str:
    return str(CHAT.tokenizer.decode(list(text.tokens[text.place(first) : text.place(last) + 1])))


def before(text: Text, name: str) -> str:
    return str(CHAT.tokenizer.decode(list(text.tokens[: text.place(name) + 1])))


@pytest.mark.parametrize(("form", "language"), FORMS, ids=lambda one: getattr(one, "name", one))
def test_places_are_where_the_words_are(form: Form, language: str) -> None:
    phrases = load_phrases(language=language)
    for phrase in phrases.phrases[::20]:
        others = [one.harmful[0] for one in phrases.others(phrase, form.others)]
        filled = form.fill(phrase.harmful[0], others)
        text = Text.of(CHAT, form, phrase.harmful[0], others)
        assert said(text, "phrase_start", "phrase_end").strip(" ?,.") == phrase.harmful[0]
        assert before(text, "instruction_end").endswith(filled.content)
        assert before(text, "phrase_end").endswith(phrase.harmful[0])
        assert text.place("prompt_end") == len(text.tokens) - 1


def test_a_user_form_is_what_a_chat_sees() -> None:
    text = Text.of(CHAT, load_forms()["open"], "bake bread")
    assert list(text.tokens) == CHAT.encode(["The first step to bake bread is to"])[0]
    assert [text.place(str(place)) for place in (-4, -1)] == [len(text.tokens) - 4, text.place("prompt_end")]
    assert Text.of(CHAT.tokenizer, load_forms()["open"], "bake bread") == text


def test_a_reply_form_goes_on_from_what_a_chat_sees() -> None:
    text, asked = (Text.of(CHAT, load_forms()[name], "bake bread") for name in ("reply-open", "question"))
    assert text.tokens[: len(asked.tokens)] == asked.tokens
    assert CHAT.tokenizer.decode(list(text.tokens[len(asked.tokens) :])) == "The first step is to"
    apart = {"prompt_end"}
    assert {name: place for name, place in text.places.items() if name not in apart} == {
        name: place for name, place in asked.places.items() if name not in apart
    }
    messages = [
        {"role": "user", "content": "How do I bake bread?"},
        {"role": "assistant", "content": "The first step is to"},
    ]
    begun = CHAT.tokenizer.apply_chat_template(messages, continue_final_message=True, return_dict=True)["input_ids"]
    assert list(text.tokens) == list(begun)


def test_raw_text_has_no_template() -> None:
    text = Text.of(CHAT, load_forms()["raw-open"], "bake bread")
    assert CHAT.tokenizer.decode(list(text.tokens)) == "The first step to bake bread is to"
    assert set(text.places) == {"phrase_start", "phrase_end", "instruction_end", "prompt_end"}


def test_a_tokenizer_without_a_template_takes_raw_forms_alone() -> None:
    tokenizer = tiny_chat().tokenizer
    tokenizer.chat_template = None
    assert Text.of(tokenizer, load_forms()["raw-open"], "sing") == Text.of(CHAT, load_forms()["raw-open"], "sing")
    with pytest.raises(InputError, match="the model has no chat template"):
        Text.of(tokenizer, load_forms()["open"], "sing")


def test_a_raw_text_is_left_open_and_begins_as_its_tokenizer_begins_texts() -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = tiny_chat().tokenizer
    begin, end = tokenizer.bos_token or tokenizer.eos_token, tokenizer.eos_token
    ids = [(name, tokenizer.convert_tokens_to_ids(name)) for name in dict.fromkeys((begin, end))]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{begin} $A {end}", special_tokens=ids)
    text = Text.of(tokenizer, load_forms()["raw-open"], "bake bread")
    assert text.tokens[0] == tokenizer.convert_tokens_to_ids(begin)
    assert tokenizer.decode(list(text.tokens[1:])) == "The first step to bake bread is to"
    assert (
        tokenizer.decode(list(text.tokens[text.place("phrase_start") : text.place("phrase_end") + 1])) == " bake bread"
    )


def with_template(template: str) -> ChatFormat:
    return replace(CHAT, template=template)


TURNS = "{% for message in messages %}"


def test_a_template_that_strips_the_reply_is_refused() -> None:
    silent = with_template(TURNS + "{% if message.role == 'user' %}[{{ message.content }}]{% endif %}{% endfor %}A:")
    with pytest.raises(InputError, match="form reply-open: the chat template strips the reply 'The first step is to'"):
        Text.of(silent, load_forms()["reply-open"], "bake bread")
    assert Text.of(silent, load_forms()["open"], "bake bread").place("prompt_end")


def test_a_template_that_takes_no_reply_is_refused() -> None:
    strict = (
        TURNS
        + "{% if message.role != 'user' %}{{ raise_exception('users\nalone') }}{% endif %}[{{ message.content }}]{% endfor %}"
    )
    with pytest.raises(InputError, match="form reply-open: the chat template takes no reply: users") as error:
        Text.of(with_template(strict), load_forms()["reply-open"], "bake bread")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "what"), [("open", "the chat template or the tokenizer"), ("raw-open", "the tokenizer")]
)
def test_a_tokenizer_that_changes_the_words_is_refused(name: str, what: str) -> None:
    tokenizer = tiny_chat().tokenizer
    tokenizer.backend_tokenizer.normalizer = normalizers.Lowercase()
    with pytest.raises(InputError, match=f"form {name}: {what} changes the words 'The first step"):
        Text.of(tokenizer, load_forms()[name], "bake bread")


def test_a_template_that_drops_the_words_is_refused() -> None:
    loud = with_template(TURNS + "[{{ message.content | upper }}]{% endfor %}")
    with pytest.raises(InputError, match="chat template"):
        Text.of(loud, load_forms()["open"], "bake bread")


def test_a_reply_begins_behind_the_space_that_the_template_puts_there() -> None:
    spaced = with_template(
        TURNS
        + "{% if message.role == 'user' %}U: {{ message.content }}\nA:{% else %} {{ message.content }}.{% endif %}{% endfor %}"
    )
    text = Text.of(spaced, load_forms()["reply-open"], "bake bread")
    assert CHAT.tokenizer.decode(list(text.tokens)) == "U: How do I bake bread?\nA: The first step is to"


def test_what_a_template_adds_to_finished_replies_alone_is_left_away() -> None:
    thoughtful = with_template(
        TURNS
        + "{% if message.role == 'user' %}U: {{ message.content }}\n{% else %}A:(thought){{ message.content }}{% endif %}{% endfor %}"
        + "{% if add_generation_prompt %}A:{% endif %}"
    )
    text = Text.of(thoughtful, load_forms()["reply-open"], "bake bread")
    assert CHAT.tokenizer.decode(list(text.tokens)) == "U: How do I bake bread?\nA:The first step is to"


def test_a_system_message_that_says_the_same_is_not_the_instruction() -> None:
    chat = replace(CHAT, system="How do I bake bread?")
    text = Text.of(chat, load_forms()["reply-closed"], "bake bread")
    plain = Text.of(CHAT, load_forms()["reply-closed"], "bake bread")
    more = len(text.tokens) - len(plain.tokens)
    assert more > 0
    assert text.places == {name: place + more for name, place in plain.places.items()}


@cache
def like_sentencepiece() -> ChatFormat:
    """A tokenizer as Llama 2 has it: spaces are part of the word behind them, one stands before each text, bytes for the rest."""
    corpus = [text for phrase in load_phrases() for text in (phrase.harmful[0], phrase.harmless)]
    made = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    made.train_from_iterator(corpus, trainers.BpeTrainer(vocab_size=900, special_tokens=special))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>", unk_token="<unk>")
    tokenizer.chat_template = (
        "{% for message in messages %}{% if message.role == 'user' %}<s>[INST] {{ message.content }} [/INST]"
        "{% else %} {{ message.content }} </s>{% endif %}{% endfor %}"
    )
    return ChatFormat(tokenizer)


@pytest.mark.parametrize("language", ["en", "ko"])
def test_places_hold_where_spaces_belong_to_words_and_bytes_stand_for_characters(language: str) -> None:
    chat, phrases = like_sentencepiece(), load_phrases(language=language).part("train").first(8)
    for form in load_forms(language=language):
        for phrase, text in zip(phrases, texts_of(chat, form, phrases, "harmless"), strict=True):
            start, end = text.place("phrase_start"), text.place("phrase_end")
            words = chat.tokenizer.decode(list(text.tokens[start : end + 1]))
            assert words.strip(" ?,.") == phrase.harmless
            whole = chat.tokenizer.decode(list(text.tokens))
            filled = form.fill(phrase.harmless, [one.harmless for one in phrases.others(phrase, form.others)])
            assert filled.content in whole
            if form.where == "reply":
                assert whole.endswith(f"[/INST] {filled.reply}")


def test_texts_of_a_side_are_those_of_each_phrase() -> None:
    phrases, form = load_phrases().part("select").first(5), load_forms()["shots-2"]
    for side in ("harmful", "harmless"):
        texts = texts_of(CHAT, form, phrases, side)  # type: ignore[arg-type]
        for text, phrase in zip(texts, phrases, strict=True):
            words = before(text, "instruction_end")
            assert phrase.on(side) in words  # type: ignore[arg-type]
            assert all(other.on(side) in words for other in phrases.others(phrase, 2))  # type: ignore[arg-type]


def test_a_form_of_another_language_is_refused() -> None:
    with pytest.raises(InputError, match="form open is in the language 'ko' and the phrases are in 'en'"):
        texts_of(CHAT, load_forms(language="ko")["open"], load_phrases(), "harmful")


def test_a_place_that_is_not_there_is_named() -> None:
    text = Text((5, 6), {"prompt_end": 1})
    with pytest.raises(InputError, match=r"the text has no place reply\[0\]; it has prompt_end"):
        text.place("reply[0]")
    with pytest.raises(InputError, match="the place end is at token 2; the text has 2 tokens"):
        Text((5, 6), {"end": 2})


@given(any_of.text(any_of.sampled_from("ab c.한글😀é\n"), min_size=1, max_size=30))
def test_a_character_belongs_to_the_token_that_completes_it(words: str) -> None:
    tokens = tuple(CHAT.tokenizer(words, add_special_tokens=False)["input_ids"])
    found = TokenText(CHAT.tokenizer, tokens)
    assert found.text == words
    for end in range(1, len(words) + 1):
        place = found.token_of(end)
        assert CHAT.tokenizer.decode(list(tokens[: place + 1])).startswith(words[:end])
        assert not CHAT.tokenizer.decode(list(tokens[:place])).startswith(words[:end])
        first = found.token_from(end - 1)
        assert first <= place
        assert len(CHAT.tokenizer.decode(list(tokens[:first])).rstrip("\ufffd")) <= end - 1
        assert len(CHAT.tokenizer.decode(list(tokens[: first + 1]))) >= end  # a part of a character shows as one
