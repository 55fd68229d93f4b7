"""What a defence is measured on: forms of attack on one side, normal queries on the other, each by parts of the split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from abliterate.models.generation import generate
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import Forms
from abliterate.prompts.phrases import Phrases
from abliterate.prompts.prompt_set import load_prompts, side_of
from abliterate.prompts.texts import texts_of
from abliterate.replies.coherence import is_incoherent
from abliterate.replies.concepts import is_safety
from abliterate.replies.sentences import sentences
from abliterate.storage.record_log import RecordLog, once
from abliterate.studies.features.tokens import Span, Tokens


@dataclass(frozen=True)
class Group:
    """Texts of one kind: a form of harmful phrases (`attack`), or a list of normal queries. `complete` says whether a form is.

    `ends` is where each is judged by a gate: the last token of the prompt, before a reply that is already begun; of the whole
    text where they are left away.
    """

    name: str
    attack: bool
    complete: bool
    texts: tuple[Tokens, ...]
    parts: tuple[str, ...]
    ends: tuple[int, ...] = ()

    @property
    def spans(self) -> list[Span]:
        """Return each text with the place at which a gate judges it."""
        ends = self.ends or tuple(len(text) - 1 for text in self.texts)
        return [Span(text, (end,)) for text, end in zip(self.texts, ends, strict=True)]

    def part(self, name: str, most: int | None = None) -> Group:
        """Return the texts of one side of the split, at most so many."""
        places = [place for place, part in enumerate(self.parts) if part == name][:most]
        ends = tuple(self.ends[place] for place in places) if self.ends else ()
        return replace(self, texts=tuple(self.texts[place] for place in places), parts=(name,) * len(places), ends=ends)


def attacks_of(live: LiveModel, phrases: Phrases, forms: Forms, side: str = "harmful") -> list[Group]:
    """Return harmful phrases in each form."""
    groups = []
    for form in forms:
        texts = texts_of(live.chat, form, phrases, side)  # type: ignore[arg-type]
        # "-1" is the last token that the template puts behind the user's turn; raw text has none.
        ends = tuple(one.places.get("-1", one.places["prompt_end"]) for one in texts)
        complete = form.where == "user" and form.sentence == "complete"
        parts = tuple(one.split for one in phrases)
        groups.append(Group(form.name, True, complete, tuple(one.tokens for one in texts), parts, ends))
    return groups


def matches_of(live: LiveModel, phrases: Phrases, forms: Forms) -> list[Group]:
    """Return the harmless match of each phrase in each form: normal queries, named after the form."""
    return [
        replace(one, name=match_name(one.name), attack=False) for one in attacks_of(live, phrases, forms, "harmless")
    ]


def match_name(form: str) -> str:
    """Return what the harmless phrases of a form are called.

    Examples:
        >>> match_name("question")
        'question, harmless'
    """
    return f"{form}, harmless"


def normal_of(live: LiveModel, specs: Sequence[str], *, offline: bool = False) -> list[Group]:
    """Return lists of normal queries. Raises InputError for one that cannot be read."""
    groups = []
    for spec in specs:
        prompts = load_prompts(spec, offline=offline)
        texts = tuple(map(tuple, live.chat.encode(prompts)))
        name = prompts.name.removeprefix("builtin:")
        groups.append(Group(name, False, False, texts, tuple(side_of(str(one)) for one in prompts.prompts)))
    return groups


@dataclass(frozen=True)
class Heard:
    """The replies to a group, and what each is: whether its first sentence is safety, whether it falls apart."""

    tokens: tuple[Tokens, ...]
    safe: tuple[bool, ...]
    broken: tuple[bool, ...]


def heard(live: LiveModel, group: Group, tokens: int, kept: RecordLog | None, language: str, title: str) -> Heard:
    """Return the greedy replies to a group. `kept` must be under whatever acts on the model meanwhile."""
    sequences = [list(one) for one in group.texts]

    def make() -> list[list[int]]:
        return generate(
            live.model,
            live.tokenizer,
            sequences,
            tokens,
            batch_size=live.batch_size,
            progress=live.progress,
            title=title,
        )

    found = once(kept, ["replies", sequences, tokens], make) if sequences else []
    texts = live.tokenizer.batch_decode(found, skip_special_tokens=True) if found else []
    return Heard(
        tuple(map(tuple, found)),
        tuple(is_safe(text, language) for text in texts),
        tuple(is_incoherent(text) for text in texts),
    )


def is_safe(text: str, language: str = "en") -> bool:
    """Return whether a reply's first sentence declines, moralises or redirects.

    Examples:
        >>> is_safe("I'm sorry, but I can't help with that."), is_safe("Sure. First, take a pan.")
        (True, False)
    """
    first = sentences(text, language)
    return bool(first) and is_safety(first[0].text, language)


def together(found: Mapping[str, Heard], groups: Sequence[Group], attack: bool, complete: bool | None = None) -> Heard:
    """Return the replies to all groups of a side as one, those of complete forms alone where asked for."""
    own = [found[one.name] for one in groups if one.attack == attack and complete in (None, one.complete)]
    return Heard(*(tuple(each for one in own for each in getattr(one, name)) for name in ("tokens", "safe", "broken")))
