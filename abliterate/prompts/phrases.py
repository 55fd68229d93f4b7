"""Matched verb phrases: what a request asks for, apart from the form that it is asked in.

A file of phrases has a line each: `category<TAB>harmful<TAB>harmless`, UTF-8, lines that begin with `#` passed over. The
harmful phrase may hold one `{a|b|c}`: alternatives of its telling word, the first of which is the phrase itself. English
phrases are infinitives ("bake bread"), Korean ones end in the form that stands before a noun.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal

from abliterate.errors import InputError
from abliterate.prompts.prompt_set import MINIMUM, SPLIT_NAMES, side_of
from abliterate.prompts.sources import public_spec

Side = Literal["harmful", "harmless"]

BUILTIN_PHRASES = "builtin:phrases"

TINY_PHRASES = "builtin:phrases-tiny"
"""Phrases of the tiny chat model's world: it knows little of any other."""

BUILTIN_FILES = {
    BUILTIN_PHRASES: {"en": "phrases.tsv", "ko": "phrases-ko.tsv"},
    TINY_PHRASES: {"en": "phrases-tiny.tsv"},
}
"""The package's own phrases, by SPEC and language."""

ALTERNATIVES = re.compile(r"\{([^{}]*)\}")


@dataclass(frozen=True)
class Phrase:
    """One thing to ask for, and its harmless match; `harmful` holds the alternatives of the telling word, the phrase first."""

    category: str
    harmful: tuple[str, ...]
    harmless: str

    @property
    def split(self) -> str:
        """Return `train`, `select` or `report`, by the harmful phrase's first alternative.

        All alternatives, all forms and the harmless match of a phrase are in one part.
        """
        return side_of(self.harmful[0])

    def on(self, side: Side, alternative: int = 0) -> str:
        """Return the phrase of one side. Raises InputError for an alternative that the phrase does not have."""
        if side == "harmless":
            return self.harmless
        if not 0 <= alternative < len(self.harmful):
            raise InputError(
                f"the phrase {self.harmful[0]!r} has no alternative {alternative}; it has 0 to {len(self.harmful) - 1}"
            )
        return self.harmful[alternative]


@dataclass(frozen=True)
class Phrases:
    """Phrases in order, the SPEC that they came from and their language.

    Examples:
        >>> phrases = load_phrases()
        >>> len(phrases.part("train")) + len(phrases.part("select")) + len(phrases.part("report"))
        160
    """

    spec: str
    language: str
    phrases: tuple[Phrase, ...]

    def __len__(self) -> int:
        return len(self.phrases)

    def __iter__(self) -> Iterator[Phrase]:
        return iter(self.phrases)

    def __getitem__(self, place: int) -> Phrase:
        return self.phrases[place]

    @property
    def name(self) -> str:
        """Return the SPEC without the folders of this machine."""
        return public_spec(self.spec)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the phrases, in order: the identity that records keep."""
        rows = [[one.category, list(one.harmful), one.harmless] for one in self.phrases]
        return hashlib.sha256(json.dumps([self.language, rows]).encode()).hexdigest()

    @property
    def categories(self) -> tuple[str, ...]:
        """Return the categories in the order in which they come."""
        return tuple(dict.fromkeys(one.category for one in self.phrases))

    def first(self, count: int) -> Phrases:
        """Return the first `count` phrases (all of them where there are fewer): of the package's own, of all categories."""
        return Phrases(self.spec, self.language, self.phrases[:count])

    def part(self, name: str) -> Phrases:
        """Return the `train`, `select` or `report` part. Raises InputError when it is empty, or there is no such part."""
        if name not in self._parts:
            raise InputError(f"{name}: no part of the split; choose among {', '.join(self._parts)}")
        if not self._parts[name]:
            raise InputError(
                f"{self.spec}: none of its {len(self)} phrases falls on the {name} side of the split; give more phrases "
                "(about 100 work well)"
            )
        return Phrases(self.spec, self.language, self._parts[name])

    def others(self, phrase: Phrase, count: int) -> tuple[Phrase, ...]:
        """Return `count` other phrases of the same part: the same ones whatever else is asked for, and in whatever order.

        Raises InputError where the part has too few.
        """
        near = [one for one in self._parts[phrase.split] if one.harmful[0] != phrase.harmful[0]]
        if len(near) < count:
            raise InputError(
                f"{self.spec}: a form asks for {count} other phrases beside {phrase.harmful[0]!r}, and the "
                f"{phrase.split} side of the split has {len(near)}; give more phrases, or leave the form away"
            )

        def drawn(one: Phrase) -> bytes:
            return hashlib.sha256(f"{phrase.harmful[0]}\0{one.harmful[0]}".encode()).digest()

        return tuple(sorted(near, key=drawn)[:count])

    @cached_property
    def _parts(self) -> dict[str, tuple[Phrase, ...]]:
        return {name: tuple(one for one in self.phrases if one.split == name) for name, _ in SPLIT_NAMES}


def load_phrases(spec: str | Path = BUILTIN_PHRASES, *, language: str = "en") -> Phrases:
    """Read matched verb phrases: the package's own in a language (`en`, `ko`), or a file of the user's own.

    `builtin:phrases-tiny` are phrases of the bundled tiny model's world, which knows little of any other. A file has a line each, `category<TAB>harmful<TAB>harmless`, where the harmful phrase may hold one `{a|b|c}`. Raises
    InputError for a language that the package has no phrases in, a file that cannot be read, a line that is no such row
    or repeats a phrase (with its number), and fewer than 8 phrases.

    Examples:
        >>> phrase = load_phrases()[0]
        >>> phrase.category, phrase.harmful, phrase.harmless
        ('physical harm', ('punch my annoying roommate', 'hit my annoying roommate', 'beat up my annoying roommate'), 'cheer up my annoying roommate')
        >>> phrase.split
        'train'
    """
    source = str(spec)
    text = builtin_text(source, language) if source.startswith("builtin:") else read_text(Path(source))
    phrases = parse_phrases(source, text)
    if len(phrases) < MINIMUM:
        raise InputError(f"{source}: holds {len(phrases)} phrases; give at least {MINIMUM} (about 100 work well)")
    return Phrases(source, language, phrases)


def builtin_text(spec: str, language: str) -> str:
    """Return the text of phrases that the package ships. Raises InputError for a SPEC or a language that it does not."""
    if spec not in BUILTIN_FILES:
        raise InputError(f"{spec}: unknown; the package ships {', '.join(BUILTIN_FILES)}")
    files = BUILTIN_FILES[spec]
    if language not in files:
        raise InputError(
            f"{spec}: the package has none in the language {language!r}, only in {', '.join(files)}; give a file of your own"
        )
    return (resources.files("abliterate") / "data" / "prompts" / files[language]).read_text(encoding="utf-8")


def read_text(path: Path) -> str:
    """Return the text of a file. Raises InputError when it cannot be read as UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}; save it as UTF-8") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); check the path") from error


def parse_phrases(source: str, text: str) -> tuple[Phrase, ...]:
    """Return the phrases of a file's text. Raises InputError, naming source and line, for a row that is none."""
    phrases: list[Phrase] = []
    seen: dict[str, int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = [" ".join(cell.split()) for cell in line.split("\t")]
        if len(cells) != 3 or not all(cells):
            raise InputError(f"{source}:{number}: {line!r} is no phrase; expected category<TAB>harmful<TAB>harmless")
        category, harmful, harmless = cells
        if set("{|}") & set(harmless):
            raise InputError(
                f"{source}:{number}: alternatives stand in the harmful phrase alone; remove those of {harmless!r}"
            )
        phrase = Phrase(category, alternatives(harmful, f"{source}:{number}"), harmless)
        for one in (*phrase.harmful, phrase.harmless):
            if seen.setdefault(one.casefold(), number) != number:
                raise InputError(
                    f"{source}:{number}: {one!r} is there already in line {seen[one.casefold()]}; a phrase may come once, on one side"
                )
        if len({one.casefold() for one in (*phrase.harmful, phrase.harmless)}) != len(phrase.harmful) + 1:
            raise InputError(f"{source}:{number}: {line!r} says the same twice; alternatives and sides must differ")
        phrases.append(phrase)
    return tuple(phrases)


def alternatives(text: str, place: str) -> tuple[str, ...]:
    """Return what a phrase with `{a|b|c}` may say: as many phrases as the braces hold alternatives.

    Raises InputError, naming the place, for braces that do not fit, a second pair of them, or an empty alternative.
    """
    found = ALTERNATIVES.search(text)
    around = (text[: found.start()], text[found.end() :]) if found else (text, "")
    if any(set("{|}") & set(part) for part in around):
        raise InputError(f"{place}: {text!r} does not read as a phrase with one {{a|b|c}}; write it so")
    if found is None:
        return (text,)
    words = [word.strip() for word in found[1].split("|")]
    if not all(words):
        raise InputError(f"{place}: an alternative of {text!r} is empty; write {{a|b|c}}")
    return tuple(f"{around[0]}{word}{around[1]}" for word in words)
