"""The records that are written have the shapes that are read."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.evaluation.evaluation import Evaluation
from abliterate.pipeline.run import Result
from abliterate.records.schema import Each, Either, Maybe, check_shape
from abliterate.records.shapes import EVALUATED, MANIFEST_SHAPE, OBSERVED
from fixtures import report_records


def test_what_a_run_writes_is_what_is_read(result: Result) -> None:
    for name, shape in (("abliterate.json", MANIFEST_SHAPE), ("observations.json", OBSERVED)):
        check_shape(json.loads((result.out / name).read_text()), shape, name)


def test_what_an_evaluation_writes_is_what_is_read(evaluation: Evaluation) -> None:
    check_shape(json.loads(json.dumps(evaluation.to_json())), EVALUATED, "evaluation.json")


@pytest.mark.parametrize(
    ("record", "shape"), [(report_records.manifest(), MANIFEST_SHAPE), (report_records.observations(), OBSERVED)]
)
def test_every_name_that_must_be_there_is_missed(record: dict[str, Any], shape: dict[str, Any]) -> None:
    check_shape(record, shape, "file")
    for name, inner in shape.items():
        if not isinstance(inner, Maybe):
            damaged = copy.deepcopy(record)
            del damaged[name]
            with pytest.raises(InputError, match=f"file: {name} is missing"):
                check_shape(damaged, shape, "file")


def test_shapes_are_shapes() -> None:
    def visit(shape: Any) -> None:
        if isinstance(shape, Maybe | Each):
            visit(shape.shape)
        elif isinstance(shape, Either):
            assert len(shape.shapes) > 1
            list(map(visit, shape.shapes))
        elif isinstance(shape, list):
            assert len(shape) == 1
            visit(shape[0])
        elif isinstance(shape, dict):
            list(map(visit, shape.values()))
        else:
            assert shape in (str, int, float, bool)

    for shape in (MANIFEST_SHAPE, OBSERVED, EVALUATED):
        visit(shape)
