"""A whole steering of the tiny model, small: rows, gate, columns; and the record of it."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy
import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.studies.features import steer_record
from abliterate.studies.features.rows import Rows, rows_of
from abliterate.studies.features.steer import (
    Asked,
    Made,
    chosen_on,
    chosen_rows,
    gate_of,
    layer_of,
    made_on_train,
    others_like,
    steer,
)
from abliterate.studies.features.texts import Group, normal_of
from abliterate.studies.record import plain
from fixtures.features import tied_sae
from fixtures.tiny_chat import TINY


@pytest.fixture(scope="module")
def made(tiny_live: LiveModel) -> Made:
    phrases, forms = load_phrases("builtin:phrases-tiny").first(60), load_forms().choose(["question"])
    return made_on_train(tiny_live, phrases, forms, 5, Asked(), None)


def rows_with(made: Made, others: int = 7) -> Rows:
    """Rows of which the first is the difference in means."""
    drawn = torch.randn(others, 160, generator=torch.Generator().manual_seed(2))
    vectors = torch.nn.functional.normalize(torch.cat([made.difference[None], drawn]), dim=1)
    return Rows("file", vectors, tuple(f"row{place}" for place in range(others + 1)), (5,) * (others + 1))


def test_the_row_that_parts_refused_from_answered_prompts_is_chosen_by_data(tiny_live: LiveModel, made: Made) -> None:
    assert len(made.refused) == len(made.harmful) + len(made.harmless)
    rows = rows_with(made)
    choice = chosen_rows(tiny_live, rows, made, Asked(concept="data"))
    assert choice.chosen[0] == 0
    assert float(choice.aurocs[0]) > 0.95
    assert chosen_rows(tiny_live, rows, made, Asked(concept="rows")).chosen == tuple(range(8))
    assert chosen_rows(tiny_live, rows, made, Asked(concept="ids:2,0")).chosen == (2, 0)


def test_words_choose_rows_or_are_listed(tiny_live: LiveModel, made: Made) -> None:
    words = chosen_rows(tiny_live, rows_with(made), made, Asked(concept="sorry,help"))
    assert words.how == "by words"
    assert words.by_words is not None
    assert set(words.by_words.words) == {"sorry", "help"}
    with pytest.raises(InputError, match="zeppelin: not among the"):
        chosen_rows(tiny_live, rows_with(made), made, Asked(concept="sorry,zeppelin"))
    with pytest.raises(InputError, match="one row has nothing to choose from"):
        chosen_rows(tiny_live, rows_with(made, 0), made, Asked(concept="sorry"))


def test_a_concept_that_no_text_speaks_of_chooses_nothing(tiny_live: LiveModel, made: Made) -> None:
    silent = replace(made, texts=("kettle boat", "boat bread"))
    with pytest.raises(InputError, match="hold fewer than 3 of its words"):
        chosen_rows(tiny_live, rows_with(made), silent, Asked(concept="safety"))
    assert chosen_rows(tiny_live, rows_with(made), silent, Asked(concept="data")).words == ()


def test_dead_features_cannot_be_chosen(tiny_live: LiveModel, made: Made) -> None:
    sae = tied_sae(torch.randn(6, 160, generator=torch.Generator().manual_seed(1)), 2, 5)
    sae.decoder[3] = 0
    with pytest.raises(InputError, match="feature 3 is dead"):
        chosen_rows(tiny_live, rows_of(sae, 5, "sae"), made, Asked(concept="ids:3"))


def test_rows_are_of_one_layer() -> None:
    rows = Rows("file", torch.eye(2), ("a", "b"), (3, 3))
    assert layer_of(rows) == 3
    with pytest.raises(InputError, match="several layers"):
        layer_of(replace(rows, layers=(3, 4)))
    with pytest.raises(InputError, match="no layer"):
        layer_of(replace(rows, layers=(None, None)))


def test_a_gate_needs_normal_queries(tiny_live: LiveModel, made: Made) -> None:
    with pytest.raises(InputError, match="0 normal queries"):
        gate_of(tiny_live, made, 5, [])


def test_random_rows_fire_about_as_often() -> None:
    rates = torch.linspace(0, 1, 101)
    for seed in range(5):
        drawn = others_like([10, 11, 90], rates, numpy.random.default_rng(seed))
        assert len(drawn) == 3
        assert not {10, 11, 90} & set(drawn)
        assert sum(one <= 35 for one in drawn) == 2


def test_strengths_are_chosen_on_complete_attacks_or_on_all_where_there_is_none() -> None:
    def group(name: str, attack: bool, complete: bool) -> Group:
        return Group(name, attack, complete, ((1,),) * 4, ("select",) * 4)

    attacks = group("question", True, True), group("open", True, False)
    normal = group("everyday", False, False)
    assert [one.name for one in chosen_on([*attacks, normal], 2)] == ["question", "everyday"]
    assert [one.name for one in chosen_on([attacks[1], normal], 2)] == ["open", "everyday"]
    assert all(len(one.texts) == 2 for one in chosen_on([*attacks, normal], 2))


@pytest.mark.slow
def test_a_small_table_and_its_record(tiny_live: LiveModel, made: Made) -> None:
    phrases, forms = load_phrases("builtin:phrases-tiny").first(60), load_forms().choose(["question", "reply-open"])
    normal = normal_of(tiny_live, [str(TINY / "harmless.txt")])
    found = steer(
        tiny_live, rows_with(made, 0), phrases, forms, normal, Asked(concept="rows", tokens=8, texts=3, quick=True)
    )
    names = [(one.name, one.gated) for one in found.columns]
    for kind in ("amplify", "calibrate", "difference in means"):
        assert {(kind, False), (kind, True)} <= set(names)
    assert names[0] == ("none", False)
    assert names[-1] == ("system reminder", False)
    assert len(found.random) == 2
    held = json.loads(json.dumps(plain(steer_record.results_of(found)), allow_nan=False))
    assert held["kind"] == "steer"
    assert held["gate"]["auroc"] > 0.6
    forms = [one for one in held["groups"] if one["attack"]]
    assert [one["name"] for one in forms] == ["question", "reply-open"]
    assert all(one["match_opens"]["total"] == 3 for one in forms)
    for column in held["columns"][:-1]:
        assert set(column["safe"]) == {one["name"] for one in held["groups"]}
    assert len(held["columns"]) == len(names)
