"""What the verbs of features are asked."""

from __future__ import annotations

import pytest

from abliterate.records.option import declarations
from abliterate.studies.features import method
from abliterate.studies.features.options import RULES, ExplainOptions


def test_rules_are_those_of_the_method() -> None:
    assert RULES == method.RULES
    with pytest.raises(ValueError, match="choose among prior, published, nearest"):
        declarations(ExplainOptions)["rule"].typed("first")


def test_rows_are_named_by_commas() -> None:
    assert declarations(ExplainOptions)["row"].typed("resid.3, resid.5") == ("resid.3", "resid.5")
