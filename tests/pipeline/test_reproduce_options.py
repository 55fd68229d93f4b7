"""What whoever repeats a run says about it: of what decides the result only files that may lie elsewhere."""

from __future__ import annotations

from dataclasses import fields

from abliterate.pipeline.options import Options
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.records.option import declarations


def test_nothing_is_taken_from_elsewhere_than_the_manifest_unless_it_is_said() -> None:
    said = ReproduceOptions()
    assert (said.model, said.harmful, said.harmless, said.chat_template) == (None, None, None, None)
    assert (said.trust_remote_code, said.allow_unproved) == (False, False)
    assert set(declarations(ReproduceOptions)) <= {one.name for one in fields(Options)}
    for decides in ("layer", "strength", "seed", "system", "n_train", "direction"):
        assert decides not in declarations(ReproduceOptions)
