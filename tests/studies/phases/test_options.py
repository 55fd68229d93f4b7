"""Options of phases."""

from __future__ import annotations

import pytest

from abliterate.errors import InputError
from abliterate.studies.phases.options import PhasesOptions, read_ways


def test_ways_are_read_in_their_order() -> None:
    assert read_ways("forward,dim") == ("dim", "forward")
    for text in ("magic", ""):
        with pytest.raises(ValueError, match="choose among"):
            read_ways(text)


def test_one_judge_labels_and_a_served_one_has_an_address() -> None:
    PhasesOptions(judge="org/minos").check()
    with pytest.raises(InputError, match="one judge labels"):
        PhasesOptions(judge="org/minos", judge_endpoint="http://localhost:1").check()
    with pytest.raises(InputError, match="add --judge-endpoint URL"):
        PhasesOptions(judge_model="big").check()
