"""Options of phases."""

from __future__ import annotations

import pytest

from abliterate.studies.phases.options import read_layer, read_ways


def test_ways_and_layers_are_read() -> None:
    assert read_ways("forward,dim") == ("dim", "forward")
    assert (read_layer("auto"), read_layer("7")) == ("auto", 7)
    for read, text in ((read_ways, "magic"), (read_layer, "seven")):
        with pytest.raises(ValueError, match=r"choose among|give auto"):
            read(text)
