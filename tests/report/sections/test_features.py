"""Features on the page: whichever kind of record lies there, and not without its controls."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from abliterate.report.format import MISSING
from abliterate.report.load import Gathered, gather
from abliterate.report.page import render
from abliterate.report.sections.features import numbers, words
from abliterate.studies.features import steer_record
from abliterate.studies.record import StudyRecord, write_study
from fixtures.features import known
from fixtures.positions_record import HOSTILE, mean

ROW = {
    "row": "3", "layer": 5, "words": ["cannot", "sorry"], "published": ["kettle", "boat"], "nearest": ["cannot", "can"],
    "tokens": ["sorry"], "rate": 0.25, "texts_rate": 0.5, "word_auroc": None, "refused_auroc": {"prompt_end": 0.75},
    "texts": [HOSTILE],
}  # fmt: skip


def gathered(folder: Path, results: dict[str, Any], controls: dict[str, Any] | None = None, **said: object) -> Gathered:
    settings = {"rows": "sae", "vocabulary": 400, "competing": 1, **said}
    record = StudyRecord("features", "house/chat", None, "float32", {}, 0, settings, results, controls or {})
    write_study(folder, record)
    return gather(folder)


def test_rows_with_their_words_can_be_searched(tmp_path: Path) -> None:
    tested = {"scores": {"words": mean(0.7), "top tokens": {**mean(0.7), "count": 0}}}
    changed = {
        "row": "3",
        "words": ["cannot"],
        "before": 1.5,
        "after": 0.5,
        "difference": -1.0,
        "low": -1.2,
        "high": -0.8,
        "p": 0.01,
    }
    records = gathered(tmp_path, {"kind": "explain", "rows": [ROW], "tested": tested, "changed": [changed]})
    found = words(records)
    assert found is not None
    assert found["rows"][0][:4] == ["3", "cannot, sorry", "cannot, can", "sorry"]
    assert found["told"] == "1 rows of sae compete for 400 words."
    assert [one[0] for one in found["tested"]] == ["words"]
    assert found["changed"][0][:4] == ["3", "cannot", "1.5", "0.5"]
    page = render(records)
    assert 'id="feature-find"' in page
    assert HOSTILE not in page
    assert numbers(records) == {"features": None}


def test_names_of_a_served_model_are_shown_as_text(tmp_path: Path) -> None:
    records = gathered(
        tmp_path, {"kind": "explain", "rows": [{**ROW, "name": HOSTILE}], "tested": None}, named_by="served tiny"
    )
    found = words(records)
    assert found is not None
    assert found["rows"][0][:2] == ["3", HOSTILE]
    assert found["told"].endswith("Names are of served tiny, and are not tested.")
    page = render(records)
    assert HOSTILE not in page
    assert ">name</th>" in page


def test_the_figures_of_an_sae(tmp_path: Path) -> None:
    quality = {
        "fvu": 0.12, "fvu_pca": 0.5, "active": 8.0, "alive": 0.9, "recovered": None,
        "loss": {name: mean(2.0) for name in ("model", "described", "mean")},
    }  # fmt: skip
    found = words(gathered(tmp_path, {"kind": "train", "quality": quality}))
    assert found is not None
    assert found["quality"][0] == ["variance left over", "0.12"]
    assert found["rows"] == []


def test_a_steering_has_its_table_and_its_curves(tmp_path: Path) -> None:
    defence = known(18, 1, 6, 5)
    records = gathered(tmp_path, steer_record.results_of(defence), steer_record.controls_of(defence))
    found = words(records)
    assert found is not None
    assert [one[0] for one in found["columns"]][-2:] == ["difference in means, gated", "random set 1, gated"]
    assert found["groups"] == ["question", "everyday"]
    assert found["curves"] == []  # one strength alone
    assert "18/20" in found["columns"][2][2]
    assert [one[0] for one in found["opens"]] == ["question", "everyday"]
    assert "1/4" in found["opens"][0][2]
    assert found["opens"][1][2] == MISSING
    assert 'id="features"' in render(records)


def test_strengths_that_were_tried_are_drawn(tmp_path: Path) -> None:
    defence = known(18, 1, 6, 5)
    results = steer_record.results_of(defence)
    results["strengths"][0]["tried"] *= 2
    records = gathered(tmp_path, results, steer_record.controls_of(defence))
    assert numbers(records)["features"]["curves"][0]["name"] == "calibrate, gated"
    assert 'id="plot-steering"' in render(records)


def test_without_controls_or_kind_nothing_is_drawn(tmp_path: Path) -> None:
    defence = known(18, 1, 6, 5)
    assert words(gathered(tmp_path, steer_record.results_of(defence))) is None
    assert words(gathered(tmp_path, {"kind": "other"})) is None
    assert words(Gathered({})) is None
    assert numbers(Gathered({})) == {"features": None}
