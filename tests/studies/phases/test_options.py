"""Options of phases."""

from __future__ import annotations

import pytest

from abliterate.studies.phases.options import read_ways


def test_ways_are_read() -> None:
    assert read_ways("forward,dim") == ("dim", "forward")
    with pytest.raises(ValueError, match="choose among"):
        read_ways("magic")
