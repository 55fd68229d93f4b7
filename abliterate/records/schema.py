"""What a JSON file must look like, as data, and a check that names the place where it does not.

A shape is a type (`str`, `int`, `float`, `bool`), a list of one shape (any number of them), a dict of names
(all of which must be there; more are allowed), or one of `Maybe`, `Each` and `Either` below.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from abliterate.errors import InputError

RecordShape = Any
"""A shape as the module describes it; Python's types cannot say it recursively."""

NAMES = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "an object",
}


@dataclass(frozen=True)
class Maybe:
    """The shape, or null; inside a dict the name may also be missing."""

    shape: RecordShape


@dataclass(frozen=True)
class Each:
    """An object with any names, all of whose values have the shape."""

    shape: RecordShape


@dataclass(frozen=True)
class Either:
    """One of several shapes; objects are told apart by their names."""

    shapes: tuple[RecordShape, ...]


def check_shape(value: object, shape: RecordShape, source: str, place: str = "") -> None:
    """Raise InputError, naming `source` and the place inside it, where the value does not have the shape."""
    if isinstance(shape, Maybe):
        if value is not None:
            check_shape(value, shape.shape, source, place)
    elif isinstance(shape, Either):
        check_either(value, shape, source, place)
    elif isinstance(shape, Each):
        for name, one in expect(value, dict, source, place).items():
            check_shape(one, shape.shape, source, f"{place}.{name}")
    elif isinstance(shape, dict):
        held = expect(value, dict, source, place)
        for name, one in shape.items():
            if name not in held and not isinstance(one, Maybe):
                raise malformed(source, f"{place}.{name}", "is missing")
            check_shape(held.get(name), one, source, f"{place}.{name}")
    elif isinstance(shape, list):
        for number, one in enumerate(expect(value, list, source, place)):
            check_shape(one, shape[0], source, f"{place}[{number}]")
    else:
        expect(value, shape, source, place)


def completed(value: Any, shape: RecordShape) -> Any:
    """Return a value that has the shape with null under every name that a `Maybe` let be missing: readers find each."""
    if isinstance(shape, Maybe):
        return None if value is None else completed(value, shape.shape)
    if isinstance(shape, Either):
        return completed(value, fitting(value, shape))
    if isinstance(shape, Each):
        return {name: completed(one, shape.shape) for name, one in value.items()}
    if isinstance(shape, dict):
        return {**value, **{name: completed(value.get(name), one) for name, one in shape.items()}}
    return [completed(one, shape[0]) for one in value] if isinstance(shape, list) else value


def fitting(value: object, shape: Either) -> RecordShape:
    """Return the first of the shapes that a value has: the last where it has no other."""
    for one in shape.shapes[:-1]:
        try:
            check_shape(value, one, "")
        except InputError:
            continue
        return one
    return shape.shapes[-1]


def check_either(value: object, shape: Either, source: str, place: str) -> None:
    """Raise what the last of the shapes has to say where none of them fits."""
    for number, one in enumerate(shape.shapes):
        try:
            return check_shape(value, one, source, place)
        except InputError:
            if number + 1 == len(shape.shapes):
                raise


def expect(value: object, kind: type, source: str, place: str) -> Any:
    """Return the value when it is of the kind; a whole number is a number too, and true is neither."""
    allowed = (int, float) if kind is float else (kind,)
    if not isinstance(value, allowed) or (isinstance(value, bool) and kind is not bool):
        found = "null" if value is None else NAMES.get(type(value), type(value).__name__)
        raise malformed(source, place, f"should be {NAMES[kind]}, not {found}")
    return value


def malformed(source: str, place: str, problem: str) -> InputError:
    """Return the error for something in a file that should not be so."""
    return InputError(f"{source}: {place.lstrip('.') or 'the file'} {problem}; write the file again with abliterate")
