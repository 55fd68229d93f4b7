"""Errors that are raised on purpose: one family, and exit codes that tell a failed proof from a wrong question."""

from __future__ import annotations

import pytest

from abliterate import errors
from abliterate.errors import AbliterateError, InputError, NoRefusalsError, ProofError, first_line

CLASSES = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)]


def test_all_are_of_one_family_and_a_failed_proof_alone_has_a_code_of_its_own() -> None:
    assert len(CLASSES) == 7
    assert all(issubclass(one, AbliterateError) for one in CLASSES)
    assert {one.__name__: one.exit_code for one in CLASSES if one.exit_code != 2} == {"ProofError": 1}
    assert issubclass(NoRefusalsError, InputError)
    assert not issubclass(ProofError, InputError)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("the first\nthe second"), "the first"),
        (ValueError("\n  after a blank line\nmore"), "after a blank line"),
        (KeyError("without quotes"), "without quotes"),
        (KeyError(), "KeyError"),
        (RuntimeError(""), "RuntimeError"),
        (OSError(2, "No such file or directory"), "[Errno 2] No such file or directory"),
        (ValueError(3), "3"),
    ],
    ids=str,
)
def test_the_first_line_of_an_error(error: BaseException, line: str) -> None:
    assert first_line(error) == line
