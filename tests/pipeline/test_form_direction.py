"""The direction of a form and a place is the vector that a study of positions makes there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from abliterate.activations.places import capture_places
from abliterate.commands.reproduce import reproduce
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.pipeline.form_direction import OpenedForm, check_recorded_form, form_directions, open_form
from abliterate.pipeline.form_options import FormOptions
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.pipeline.run import run
from abliterate.projection import remove_component
from abliterate.prompts.texts import texts_of
from fixtures.tiny_chat import TINY, in_float32, tiny_chat

ASKED = FormOptions(form="question", place="1-harm", phrases="builtin:phrases-tiny")


@pytest.fixture(scope="module")
def live() -> LiveModel:
    return LiveModel.of(AutoModelForCausalLM.from_pretrained(TINY, dtype=torch.float32).eval(), tiny_chat())


def opened(asked: FormOptions, count: int = 48) -> OpenedForm:
    found = open_form(asked)
    assert found is not None
    return replace(found, train=found.train.first(count))


def test_the_vector_is_the_difference_in_means_at_the_prompts_end(live: LiveModel, cache: Path) -> None:
    options, few = in_float32(Path("out")), opened(ASKED)
    source = open_source(options)
    found = form_directions(live, few, options, source)
    plain = form_directions(live, few, replace(options, direction="mean-difference"), source)
    sides = [
        capture_places(live, texts_of(live.chat, few.form, few.train, side), ("prompt_end",), (4,)).resid[:, 0, 0]
        for side in ("harmful", "harmless")
    ]
    harmful, harmless = (side.double().mean(0) for side in sides)
    torch.testing.assert_close(plain.difference(4), (harmful - harmless).float(), atol=1e-4, rtol=1e-4)
    expected = remove_component(harmful - harmless, harmless).float()
    torch.testing.assert_close(found.difference(4), expected, atol=1e-4, rtol=1e-4)
    assert found.depth == live.architecture.depth
    assert not found.exists(0)
    assert found.metadata["made_of"]["phrases"]["train"] == 48
    assert found.metadata["made_of"]["form"] == "question"


@pytest.mark.parametrize(("place", "way_out"), [("1", "take --place 1-harm"), ("2", "take --place 1-harm")])
def test_a_place_with_too_few_cases_says_so(live: LiveModel, cache: Path, place: str, way_out: str) -> None:
    options = in_float32(Path("out"), direction="mean-difference")
    with pytest.raises(InputError, match=rf"^--form question --place {place}: .*: not enough; .*{way_out}$"):
        form_directions(live, opened(replace(ASKED, place=place), 8), options, open_source(options))


def test_a_form_that_is_not_there_and_none_at_all() -> None:
    assert open_form(FormOptions()) is None
    with pytest.raises(InputError, match="--form nope: unknown; there are question"):
        open_form(FormOptions(form="nope"))


def test_phrases_and_forms_of_a_record_are_those_that_the_run_had(tmp_path: Path) -> None:
    made = opened(ASKED).record()
    check_recorded_form(ASKED, made)
    check_recorded_form(FormOptions(), {})
    with pytest.raises(
        InputError, match=r"builtin:phrases: holds other phrases than the run had; give them with --phrases"
    ):
        check_recorded_form(replace(ASKED, phrases="builtin:phrases"), made)
    own = tmp_path / "own.toml"
    own.write_text('[[form]]\nname = "question"\nwhere = "user"\nsentence = "complete"\nuser = "Please {p}."\n')
    with pytest.raises(InputError, match="holds other forms than the run had"):
        check_recorded_form(replace(ASKED, forms=str(own)), made)


@pytest.mark.slow
def test_a_run_by_form_and_place_is_recorded_and_comes_out_the_same_again(tmp_path: Path, cache: Path) -> None:
    given = in_float32(tmp_path / "edited", layer=5, form="question", place="1-harm", phrases="builtin:phrases-tiny")
    one = run(given)
    assert one.manifest["direction"]["form"] == "question"
    assert one.manifest["direction"]["place"] == "1-harm"
    assert one.measured.edited is not None
    assert one.measured.edited.harmful_refusals.value < 0.2
    assert "form `question`" in (given.out / "README.md").read_text()
    again = ReproduceOptions(
        model=str(TINY), harmful=str(TINY / "harmful.txt"), harmless=str(TINY / "harmless.txt"), device="cpu"
    )
    assert reproduce(str(given.out), again, tmp_path / "again").same
