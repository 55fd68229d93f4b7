"""How a setting is declared, once: the command line, a run's record and whoever reads that record derive from it.

A class of options is a frozen dataclass whose fields are made by `option`. Nothing here takes time to import, nor may
what declares options: --help and completion read the declarations.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

T = TypeVar("T")

OFF = "off"
"""The text of a switch that was switched off."""

KEY = "option"
"""Under which a field's metadata holds its declaration."""

ALSO: Mapping[str, tuple[str, ...]] = {
    "--out": ("-o", "--output-dir"),
    "--quiet": ("-q",),
    "--steps": ("--max-steps",),
    "--rank": ("--lora-r",),
}
"""Other names of a flag, on whichever verb it is: those that the shell's tools, Hugging Face's and trl have for it."""

Panel = Literal["model", "prompts", "edit", "search", "training", "measure", "study", "output", "hub", "hardware"]
"""What an option is about: its heading in the help of every verb, in this order.

A class of options says it for those that it declares, as `PANEL`; an option may say another.
"""

PANELS: tuple[Panel, ...] = get_args(Panel)

Beside = Callable[[str], Path]
"""Returns the file of a name that lies beside a record; raises InputError where it is not there, or lies elsewhere."""


@dataclass(frozen=True)
class Declaration:
    """What is known of one option beside its name, type and default.

    `read` takes the text that `write` gives, and raises ValueError with the way out for any other. `kind` is what the
    command line takes the text for, bool being a switch; `words` are known words, `listed` says that several stand
    between commas. `off` is the flag that switches off what is neither on nor off by default. `none` is the word for None, shown as the default where `none_shown` says so; `least` a lower bound.

    `flag` is the name on the command line where it is not the field's, `argument` says that it stands without a flag,
    `metavar` what stands for its value in help, `panel` under which heading where it is not its class's; `offered` is False for what only the
    library takes. `usual` gives the value of what is required here, and may be left out on the command line.

    `here` marks what says where and how, not what: it stays out of records. `refused` says why a record may not decide
    it. `publish` writes it into a record in place of `write`, without the folders of this machine; `locate` reads it
    there with what lies beside the record.
    """

    help: str
    read: Callable[[str], Any] = str
    write: Callable[[Any], str] = str
    kind: type = str
    words: tuple[str, ...] = ()
    listed: bool = False
    off: str | None = None
    none: str | None = None
    none_shown: bool = False
    least: int | float | None = None
    flag: str | None = None
    argument: bool = False
    metavar: str | None = None
    panel: Panel | None = None
    offered: bool = True
    usual: Callable[[Mapping[str, Any]], Any] | None = None
    here: bool = False
    refused: str | None = None
    publish: Callable[[Any], str] | None = None
    locate: Callable[[str, Beside], Any] | None = None

    @property
    def switch(self) -> bool:
        """Return whether it is a flag without a value."""
        return self.kind is bool

    @property
    def recorded(self) -> bool:
        """Return whether a record may decide it."""
        return not self.here and self.refused is None and self.offered

    def typed(self, text: str) -> Any:
        """Return the value of what was typed. Raises ValueError with the way out for what cannot be read."""
        return None if text == self.none else self.read(text)

    def text(self, value: Any) -> str:
        """Return what may be typed for a value."""
        return self.none or "" if value is None else self.write(value)


def option(default: T, declaration: Declaration) -> T:
    """Return a dataclass field that declares an option with a default."""
    return field(default=default, metadata={KEY: declaration})


def declarations(options: type) -> Mapping[str, Declaration]:
    """Return the declaration of each field of a class of options, by name."""
    return {one.name: one.metadata[KEY] for one in fields(options)}


def default_of(options: type, name: str) -> Any:
    """Return the default of a field, MISSING for what is required."""
    return next(one.default for one in fields(options) if one.name == name)


def panel_of(options: type, name: str) -> Panel | None:
    """Return what an option is about: as it says, else as the class says that declares it; None where neither does."""
    declared: Declaration = declarations(options)[name]
    owner = next(one for one in options.__mro__ if name in vars(one).get("__annotations__", {}))
    return declared.panel or vars(owner).get("PANEL")


def flag_of(name: str, declaration: Declaration) -> str:
    """Return the flag of an option, as it is typed."""
    return declaration.flag or f"--{name.replace('_', '-')}"


def names_of(flag: str) -> tuple[str, ...]:
    """Return all names of a flag, the one that records and messages use first."""
    return (flag, *ALSO.get(flag, ()))


def changed(options: Any) -> dict[str, Any]:
    """Return the values that are not the defaults, by name; what is required has none."""
    values = {one.name: (getattr(options, one.name), one.default) for one in fields(options)}
    return {name: value for name, (value, usual) in values.items() if usual is not MISSING and value != usual}


def without_flag(options: Any) -> dict[str, Any]:
    """Return the values that are not the defaults and for which the command line has no flag."""
    known = declarations(type(options))
    return {name: value for name, value in changed(options).items() if not known[name].offered}


def recorded(options: Any) -> Iterator[tuple[str, Declaration, Any]]:
    """Yield name, declaration and value of all that a record may decide and that is not at its default.

    What is typed for it is text, without the folders of this machine; a switch is True or False, a number a number.
    """
    known = declarations(type(options))
    for name, value in changed(options).items():
        one = known[name]
        if one.recorded:
            plain = one.switch or (isinstance(value, int | float) and one.text(value) == str(value))
            text = one.publish(value) if one.publish and value is not None else one.text(value)
            yield name, one, value if plain else text


def words_of(options: Any) -> list[str]:
    """Return the words of a command for all that a record may decide and that is not at its default.

    Folders of this machine stay out of it.
    """
    words = list[str]()
    for name, one, value in recorded(options):
        words.append(one.off or flag_of(name, one) if value is False else flag_of(name, one))
        if not one.switch:
            words.append(str(value))
    return words


def one_of(known: Collection[str]) -> Callable[[str], str]:
    """Return what reads one of the known words."""

    def read(text: str) -> str:
        if text not in known:
            raise ValueError(f"choose among {', '.join(known)}")
        return text

    return read


def some_of(known: Collection[str]) -> Callable[[str], tuple[str, ...]]:
    """Return what reads some of the known words by commas, at least one."""

    def read(text: str) -> tuple[str, ...]:
        words = split(text)
        if not words or not set(words) <= set(known):
            raise ValueError(f"choose among {', '.join(known)}")
        return words

    return read


def split(text: str) -> tuple[str, ...]:
    """Return the words that commas part."""
    return tuple(word.strip() for word in text.split(",") if word.strip())


def number_or(*words: str) -> Callable[[str], str | int]:
    """Return what reads a whole number, or one of some words."""

    def read(text: str) -> str | int:
        if text in words:
            return text
        try:
            return int(text)
        except ValueError:
            raise ValueError(f"give {', '.join(words)} or a whole number") from None

    return read


def whole_number(text: str) -> int:
    """Read a whole number, where a word may stand too."""
    try:
        return int(text)
    except ValueError:
        raise ValueError("give a whole number or auto") from None
