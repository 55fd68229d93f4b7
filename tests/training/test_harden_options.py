"""How to harden: what the options say are the defaults are those of the work."""

from __future__ import annotations

import inspect
import re

from abliterate.records.option import declarations
from abliterate.training.harden_options import HardenOptions


def test_the_help_names_the_defaults() -> None:
    told = {}
    for name, declaration in declarations(HardenOptions).items():
        found = re.search(r"\[default: ([\d.e-]+)", declaration.help)
        if found:
            told[name] = float(found[1])
    assert told
    assert told == {name: float(getattr(HardenOptions(), name)) for name in told}
    assert set(inspect.signature(HardenOptions).parameters) == set(declarations(HardenOptions))
