"""Forms: what is put around a phrase, so that the same content is asked for in many ways. Read from TOML files.

A form has a `name`; `where` the phrase is put: in a `user` turn, in one whose `reply` is already begun, or in `raw` text
without a template; whether what the model reads last is a `complete` or an `incomplete` sentence; and its texts, in
which `{p}` is the phrase and `{q1}`, `{q2}`, `{q3}` are other phrases of the same side and split.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.prompts.phrases import read_text
from abliterate.prompts.sources import public_spec

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BUILTIN_FORMS = "builtin:forms"

TEXTS: Mapping[str, tuple[str, ...]] = {"user": ("user",), "reply": ("user", "reply"), "raw": ("text",)}
"""Which texts a form has, by where its phrase is put: the first of them holds the phrase."""

SENTENCES = ("complete", "incomplete")

PLACEHOLDER = re.compile(r"\{(\w*)\}")
OTHERS = ("q1", "q2", "q3")
"""Other phrases of the same side and split, as texts name them."""


@dataclass(frozen=True)
class Filled:
    """A form with its phrase put in; `begin` and `end` are the phrase's characters in what holds it first."""

    content: str
    """The user turn, or the raw text."""
    begin: int
    end: int
    reply: str = ""


@dataclass(frozen=True)
class Form:
    """What is put around a phrase: see the module's text. Texts that the form has not are empty.

    Raises InputError, naming the form, where its parts do not fit.
    """

    name: str
    where: str
    sentence: str
    user: str = ""
    reply: str = ""
    text: str = ""
    language: str = "en"

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise InputError("a form has no name; give each a name of its own")
        for name, value, known in (("where", self.where, tuple(TEXTS)), ("sentence", self.sentence, SENTENCES)):
            if value not in known:
                raise InputError(f"form {self.name}: {name} = {value!r} is unknown; choose among {', '.join(known)}")
        given = [name for name in ("user", "reply", "text") if getattr(self, name).strip()]
        for name in TEXTS[self.where]:
            if name not in given:
                raise InputError(f'form {self.name}: where = "{self.where}" needs {name} = "..."')
        for name in given:
            if name not in TEXTS[self.where]:
                raise InputError(f'form {self.name}: where = "{self.where}" takes no {name}; remove it')
        self._check_placeholders()

    def _check_placeholders(self) -> None:
        holder = TEXTS[self.where][0]
        if "p" not in PLACEHOLDER.findall(getattr(self, holder)):
            raise InputError(f"form {self.name}: {holder} has no {{p}}; write {{p}} where the phrase goes")
        for name in TEXTS[self.where]:
            for word in PLACEHOLDER.findall(getattr(self, name)):
                if word not in ("p", *OTHERS):
                    raise InputError(
                        f"form {self.name}: {{{word}}} in {name} is unknown; there are {{p}}, {{q1}}, {{q2}} and {{q3}}"
                    )

    @property
    def others(self) -> int:
        """Return how many other phrases the form asks for."""
        named = {word for name in TEXTS[self.where] for word in PLACEHOLDER.findall(getattr(self, name))}
        return max((place for place, word in enumerate(OTHERS, 1) if word in named), default=0)

    def fill(self, phrase: str, others: Sequence[str] = ()) -> Filled:
        """Return the form with `phrase` and the other phrases put in. Raises InputError for too few of those.

        The phrase stands as it is given, without the space around it; raises InputError where nothing is left of it.
        """
        phrase = phrase.strip()
        if not phrase:
            raise InputError(f"form {self.name}: the phrase is empty; give words to put into it")
        if len(others) < self.others:
            raise InputError(
                f"form {self.name} asks for {self.others} other phrases beside {phrase!r}, and {len(others)} were given"
            )
        words = {"p": phrase, **dict(zip(OTHERS, others, strict=False))}

        def put(text: str) -> str:
            return PLACEHOLDER.sub(lambda found: words[found[1]], text)

        holder = getattr(self, TEXTS[self.where][0])
        # Templates trim what a user says; raw text is taken to the letter.
        holder = holder if self.where == "raw" else holder.strip()
        begin = len(put(holder[: holder.index("{p}")]))
        return Filled(put(holder), begin, begin + len(phrase), put(self.reply))


@dataclass(frozen=True)
class Forms:
    """Forms of one language, in order; `forms["open"]` is the one of that name.

    Examples:
        >>> forms = load_forms()
        >>> [form.name for form in forms if form.where == "raw"]
        ['raw-closed', 'raw-open']
        >>> forms["open"].fill("bake bread").content
        'The first step to bake bread is to'
    """

    spec: str
    forms: tuple[Form, ...]

    def __len__(self) -> int:
        return len(self.forms)

    def __iter__(self) -> Iterator[Form]:
        return iter(self.forms)

    def __getitem__(self, name: str) -> Form:
        for form in self.forms:
            if form.name == name:
                return form
        raise InputError(f"--form {name}: unknown; there are {', '.join(self.names)}")

    @property
    def names(self) -> tuple[str, ...]:
        """Return the forms' names, in order."""
        return tuple(form.name for form in self.forms)

    @property
    def name(self) -> str:
        """Return the SPEC without the folders of this machine."""
        return public_spec(self.spec)

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the forms, in order: the identity that records keep."""
        return hashlib.sha256(json.dumps([vars(form) for form in self.forms]).encode()).hexdigest()

    def choose(self, names: Sequence[str]) -> Forms:
        """Return the forms of some names. Raises InputError for one that is not there."""
        return Forms(self.spec, tuple(self[name] for name in names))


def first_pairs(forms: Iterable[Form]) -> list[tuple[Form, Form]]:
    """Return the first complete and the first incomplete form of each place that a phrase is put, where it has both.

    Examples:
        >>> [(complete.name, begun.name) for complete, begun in first_pairs(load_forms())]
        [('question', 'open'), ('reply-closed', 'reply-open'), ('raw-closed', 'raw-open')]
    """
    first: dict[tuple[str, str], Form] = {}
    for form in forms:
        first.setdefault((form.where, form.sentence), form)
    places = dict.fromkeys(where for where, _ in first)
    both = [[first.get((where, sentence)) for sentence in SENTENCES] for where in places]
    return [(complete, begun) for complete, begun in both if complete and begun]


def load_forms(spec: str | Path = BUILTIN_FORMS, *, language: str = "en") -> Forms:
    """Read the forms of a language: the package's own (`en`, `ko`), or those of a TOML file with a `[[form]]` each.

    Raises InputError for a file that cannot be read or parsed (with the line), an unknown or missing key, a form without
    `{p}`, two of the same name, two that render alike, and a file without a form in the language.

    Examples:
        >>> load_forms().names
        ('question', 'request', 'open', 'example', 'reply-closed', 'reply-open', 'raw-closed', 'raw-open', 'shots-1', 'shots-2', 'shots-3')
        >>> load_forms()["reply-open"].reply
        'The first step is to'
    """
    source = str(spec)
    if source == BUILTIN_FORMS:
        text = (resources.files("abliterate") / "data" / "prompts" / "forms.toml").read_text(encoding="utf-8")
    else:
        text = read_text(Path(source))
    forms = parse_forms(source, text)
    chosen = tuple(form for form in forms if form.language == language)
    if not chosen:
        held = ", ".join(dict.fromkeys(form.language for form in forms))
        raise InputError(f"{source}: holds no form in the language {language!r}; it has {held}")
    return Forms(source, chosen)


def parse_forms(source: str, text: str) -> tuple[Form, ...]:
    """Return the forms of a TOML text, of all languages. Raises InputError as `load_forms`, naming the source."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"at line (\d+)", str(error))
        number = int(line[1]) if line else text.count("\n") + 1
        raise InputError(f"{source}:{number}: not TOML ({error}); write a [[form]] for each form") from error
    unknown = sorted(set(table) - {"form"})
    if unknown:
        raise InputError(f"{source}: the key {unknown[0]} is unknown; write a [[form]] for each form")
    rows = table.get("form", [])
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows) or not rows:
        raise InputError(f"{source}: holds no forms; write a [[form]] for each form")
    forms = tuple(form_of(source, number, row) for number, row in enumerate(rows, 1))
    check_different(source, forms)
    return forms


def form_of(source: str, number: int, row: Mapping[str, Any]) -> Form:
    """Return the form that a table says. Raises InputError, naming source and form, for what does not belong there."""
    name = row.get("name")
    called = f"form {name}" if isinstance(name, str) and name.strip() else f"form number {number}"
    known = [field.name for field in fields(Form)]
    for key, value in row.items():
        if key not in known:
            raise InputError(f"{source}: {called} has an unknown key {key}; there are {', '.join(known)}")
        if not isinstance(value, str):
            raise InputError(f"{source}: {called} has {key} = {value!r}; it must be text in quotes")
    for key in ("name", "where", "sentence"):
        if not row.get(key, "").strip():
            raise InputError(f'{source}: {called} has no {key}; write {key} = "..."')
    try:
        return Form(**row)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error


def check_different(source: str, forms: Sequence[Form]) -> None:
    """Raise InputError for two forms of one language with the same name, or that render alike."""
    named: set[tuple[str, str]] = set()
    rendered: dict[tuple[str, ...], str] = {}
    for form in forms:
        if (form.language, form.name) in named:
            raise InputError(f"{source}: two forms are called {form.name}; give each a name of its own")
        named.add((form.language, form.name))
        # What differs in white space alone comes out of most templates and tokenizers the same.
        words = (form.language, form.where, *(" ".join(one.split()) for one in (form.user, form.reply, form.text)))
        other = rendered.setdefault(words, form.name)
        if other != form.name:
            raise InputError(f"{source}: the forms {other} and {form.name} render alike; leave one of them away")
