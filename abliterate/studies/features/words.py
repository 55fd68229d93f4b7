"""Words, and the vectors that stand for them: what a feature is explained by.

A word is a run of Latin letters, or of Hangul; those of one simple stem are one word, shown in the form that is most frequent.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.architectures.wrappers import name_of
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.models.offload import offloaded_parameter
from abliterate.replies.text import plain

WORD = re.compile(r"[a-z]{3,}|[가-힣]+")

ENDINGS = (("ies", "y"), ("ing", ""), ("ed", ""), ("es", ""), ("ly", ""), ("s", ""))
"""Endings that are merged, and what stands for them: the first that fits a word of which three letters stay."""

MOST = 5000
"""Words of a vocabulary (arXiv 2502.15576)."""


def stem(word: str) -> str:
    """Return what the forms of a word have in common, roughly.

    Examples:
        >>> [stem(word) for word in ("warnings", "warned", "policies", "access")]
        ['warn', 'warn', 'policy', 'access']
    """
    for ending, instead in ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3 and not (ending == "s" and word.endswith("ss")):
            cut = word[: -len(ending)] + instead
            return stem(cut) if ending == "s" else cut
    return word


def words_of(text: str) -> list[str]:
    """Return the words of a text in their order, in small letters.

    Examples:
        >>> words_of("I can't help, Sir!")
        ['can', 'help', 'sir']
    """
    return list(WORD.findall(plain(text)))


@dataclass(frozen=True)
class Vocabulary:
    """Words, the most frequent first, and in how many texts each stands."""

    words: tuple[str, ...]
    counts: tuple[int, ...]

    def __post_init__(self) -> None:
        if len(self.words) < 2:
            raise InputError(
                f"a vocabulary of {len(self.words)} words explains nothing; give more text, or --vocabulary FILE"
            )

    def __len__(self) -> int:
        return len(self.words)

    def __contains__(self, word: object) -> bool:
        return isinstance(word, str) and stem(word) in self.places

    @cached_property
    def places(self) -> Mapping[str, int]:
        """Return the place of each word by its stem."""
        return {stem(word): place for place, word in enumerate(self.words)}

    def of(self, words: Sequence[str]) -> list[int]:
        """Return the places of words. Raises InputError that lists those that are not in it."""
        missing = [word for word in words if word.casefold() not in self]
        if missing:
            raise InputError(
                f"{', '.join(missing)}: not among the {len(self)} words of the vocabulary; take other words, or give a "
                "list that holds them with --vocabulary FILE"
            )
        return list(dict.fromkeys(self.places[stem(word.casefold())] for word in words))

    def held(self, texts: Sequence[str]) -> Float[Tensor, "texts words"]:
        """Return which text holds which word, as 1 and 0."""
        found = torch.zeros(len(texts), len(self))
        for row, text in enumerate(texts):
            found[row, [self.places[one] for one in {stem(word) for word in words_of(text)} if one in self.places]] = 1
        return found


def vocabulary(texts: Iterable[str], most: int = MOST) -> Vocabulary:
    """Return the words that stand in the most texts, at most `most`; forms of one stem count together.

    Raises InputError where there are fewer than two.

    Examples:
        >>> found = vocabulary(["A warning of fraud.", "Fraud warnings.", "My warning."])
        >>> found.words, found.counts
        (('warning', 'fraud'), (3, 2))
    """
    stems, forms = Counter[str](), defaultdict[str, Counter[str]](Counter)
    for text in texts:
        found = words_of(text)
        stems.update({stem(word) for word in found})
        for word in found:
            forms[stem(word)][word] += 1
    ranked = sorted(stems, key=lambda one: (-stems[one], one))[:most]
    shown = [min(forms[one], key=lambda word: (-forms[one][word], word)) for one in ranked]
    return Vocabulary(tuple(shown), tuple(stems[one] for one in ranked))


def read_vocabulary(text: str, texts: Iterable[str]) -> Vocabulary:
    """Return the words of a list, one or more a line, with how many of `texts` hold each."""
    listed = list(dict.fromkeys(words_of(text)))
    unique = {stem(word): word for word in reversed(listed)}
    counted = Counter(one for said in texts for one in {stem(word) for word in words_of(said)})
    ranked = sorted(unique, key=lambda one: (-counted[one], one))
    return Vocabulary(tuple(unique[one] for one in ranked), tuple(counted[one] for one in ranked))


def word_vectors(live: LiveModel, words: Vocabulary) -> Float[Tensor, "words d_model"]:
    """Return for each word the mean of the output embedding's rows of the tokens of a space and the word, in float32."""
    head = live.model.get_output_embeddings()
    name = name_of(live.model, head)
    matrix = head.weight if name is None else offloaded_parameter(live.model, f"{name}.weight")
    ids = live.tokenizer([f" {word}" for word in words.words], add_special_tokens=False)["input_ids"]
    # A tokenizer may begin every text with a space of its own; words all of whose tokens are unknown stay a vector too.
    return torch.stack([matrix[own].detach().float().cpu().mean(0) for own in ids])
