"""What a JSON file must look like, and the place where it does not."""

from __future__ import annotations

from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.records.schema import Each, Either, Maybe, check_shape, completed

SHAPE = {
    "name": str,
    "rates": [{"count": int, "share": Maybe(float)}],
    "sites": Each(Either(([float], float))),
    "note": Maybe(str),
    "done": bool,
}
VALUE: dict[str, Any] = {
    "name": "x", "rates": [{"count": 1, "share": 0.5}, {"count": 2, "share": None, "more": []}],
    "sites": {"attn": [1, 0.5], "mlp": 2}, "done": False,
}  # fmt: skip


def test_what_fits_is_let_through_whatever_more_it_holds() -> None:
    check_shape(VALUE, SHAPE, "file.json")
    check_shape({**VALUE, "unheard of": object()}, SHAPE, "file.json")
    check_shape({**VALUE, "rates": [], "sites": {}}, SHAPE, "file.json")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": None}, "name should be text, not null"),
        ({"name": 3}, "name should be text, not a whole number"),
        ({"rates": {}}, "rates should be a list, not an object"),
        ({"rates": [{"count": 1}, {"count": 1.5}]}, r"rates\[1\]\.count should be a whole number, not a number"),
        ({"rates": [{"count": True}]}, r"rates\[0\]\.count should be a whole number, not true or false"),
        ({"rates": [{}]}, r"rates\[0\]\.count is missing"),
        ({"rates": [{"count": 1, "share": True}]}, r"rates\[0\]\.share should be a number, not true or false"),
        ({"sites": {"mlp": "1"}}, "sites.mlp should be a number, not text"),
        ({"sites": []}, "sites should be an object, not a list"),
        ({"done": 1}, "done should be true or false, not a whole number"),
        ({"note": []}, "note should be text, not a list"),
    ],
    ids=str,
)
def test_what_does_not_is_named_with_its_place(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"^file.json: {message}; write the file again with abliterate$"):
        check_shape({**VALUE, **change}, SHAPE, "file.json")


def test_the_file_itself_is_a_place() -> None:
    with pytest.raises(InputError, match=r"^file\.json: the file should be an object, not a list"):
        check_shape([], SHAPE, "file.json")


def test_what_may_be_missing_is_null_for_whoever_reads_it() -> None:
    shape = {
        "a": Maybe(int),
        "b": [{"c": Maybe(str), "d": int}],
        "e": Maybe(Each({"f": Maybe(float)})),
        "g": Either(({"h": int, "i": Maybe(int)}, {"j": int, "k": Maybe(int)})),
    }
    value = {"b": [{"d": 1}, {"c": "x", "d": 2, "more": 3}], "e": {"one": {}}, "g": {"j": 4}}
    check_shape(value, shape, "file")
    assert completed(value, shape) == {
        "a": None,
        "b": [{"c": None, "d": 1}, {"c": "x", "d": 2, "more": 3}],
        "e": {"one": {"f": None}},
        "g": {"j": 4, "k": None},
    }
    assert completed({"b": [], "g": {"h": 1}}, shape) == {"a": None, "b": [], "e": None, "g": {"h": 1, "i": None}}
