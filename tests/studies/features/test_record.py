"""What a record of an explanation holds: every row, controls, verdicts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from abliterate.models.live_model import LiveModel
from abliterate.studies.features.corpus import Corpus
from abliterate.studies.features.record import controls_of, results_of, settings_of, verdicts_of
from abliterate.studies.features.rows import Rows, read_rows
from abliterate.studies.features.run import Features, study
from abliterate.studies.features.words import vocabulary
from abliterate.studies.record import plain


@pytest.fixture(scope="module")
def found(tiny_live: LiveModel, corpus: Corpus, directions_file: Path) -> Features:
    return study(tiny_live, read_rows(directions_file, 160), corpus, vocabulary(corpus.texts), count=5)


def test_every_row_is_there_with_its_words(found: Features) -> None:
    held = json.loads(json.dumps(plain(results_of(found)), allow_nan=False))
    assert sorted(one["row"] for one in held["rows"]) == sorted(found.rows.names)
    for one in held["rows"]:
        assert len(one["words"]) == len(one["published"]) == len(one["nearest"]) == 5
        assert 0 < one["rate"] <= one["texts_rate"] <= 1
    assert held["tested"] == controls_of(found)["tested"]
    assert settings_of(found, 1.0)["competing"] == len(found.rows)
    assert settings_of(found, 1.0)["layers"] == list(range(1, 9))


def test_the_published_rule_is_said_not_to_pick_near_words(found: Features) -> None:
    tested, published = verdicts_of(found)
    assert "random words of equal frequency" in tested.control
    assert published.verdict == "no"


def test_without_activity_there_are_words_alone(tiny_live: LiveModel, corpus: Corpus, found: Features) -> None:
    rows = Rows("one", found.rows.vectors[:1], ("learned",), (None,))
    alone = study(tiny_live, rows, corpus, vocabulary(corpus.texts), count=5)
    (row,) = results_of(alone)["rows"]
    assert row["rate"] is None
    assert row["texts"] == []
    assert verdicts_of(alone) == []
    assert controls_of(alone) == {}
