"""Sets of prompts, and the side that each is on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.prompt_set import PromptSet, check_pair, load_prompts, side_of
from fixtures.prompts import TEXTS


def test_duplicates_and_blanks_are_dropped(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("\n".join([*TEXTS, "", "  ", f" {TEXTS[0]} "]))
    assert load_prompts(str(path)).prompts == tuple(TEXTS)


def test_sides_are_disjoint_complete_and_do_not_depend_on_the_set() -> None:
    whole = PromptSet("x", tuple(f"prompt {number}" for number in range(400)))
    sides = {name: whole.side(name).prompts for name in ("train", "select", "report")}
    assert sorted(sum(sides.values(), ())) == sorted(whole.prompts)
    part = PromptSet("y", whole.prompts[100:])
    assert set(part.side("report").prompts) == set(sides["report"]) & set(part.prompts)
    shares = {name: len(prompts) / 400 for name, prompts in sides.items()}
    assert shares == pytest.approx({"train": 0.55, "select": 0.2, "report": 0.25}, abs=0.06)


def test_the_side_of_a_text_never_changes() -> None:
    # Manifests and caches rely on it across versions, so these are fixed for good.
    sides = {"prompt 0": "train", "prompt 1": "train", "prompt 2": "train", "prompt 4": "select", "prompt 7": "train"}
    assert {text: side_of(text) for text in sides} == sides


def test_a_prompt_on_both_sides_is_refused() -> None:
    with pytest.raises(InputError, match="1 prompts are both harmful and harmless"):
        check_pair(PromptSet("a", ("x", "y")), PromptSet("b", ("y", "z")))


def test_an_empty_side_is_refused() -> None:
    other = next(name for name in ("train", "select") if name != side_of("x"))
    with pytest.raises(InputError, match=f"falls on the {other} side"):
        PromptSet("a", ("x",)).side(other)


def test_what_prompts_bring_survives_sets_and_sides(tmp_path: Path) -> None:
    rows = [
        {"prompt": f"{text} {place}", "category": "ab"[place % 2], "system": "Be short."}
        for place, text in enumerate(TEXTS * 5)
    ]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    found = load_prompts(str(tmp_path / "a.json"))
    assert found.categories == ("a", "b")
    for part in (found.first(9), found.side("train"), found.side("report")):
        assert {(one.system, one.category in ("a", "b")) for one in part.prompts if isinstance(one, Prompt)} == {
            ("Be short.", True)
        }


def test_the_digest_is_of_what_the_model_sees() -> None:
    plain = PromptSet("x", tuple(TEXTS))
    assert plain.digest == hashlib.sha256("\0".join(TEXTS).encode()).hexdigest()
    assert PromptSet("x", tuple(Prompt(text, category="a") for text in TEXTS)).digest == plain.digest
    assert PromptSet("x", tuple(Prompt(text, system="a") for text in TEXTS)).digest != plain.digest


def test_one_text_under_two_system_messages_is_two_prompts(tmp_path: Path) -> None:
    rows = [{"prompt": text, "system": system} for text in TEXTS for system in ("Be short.", "Be long.", "Be short.")]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    assert len(load_prompts(str(tmp_path / "a.json"))) == 2 * len(TEXTS)


@pytest.mark.parametrize("spec", [TEXTS, None, 3])
def test_a_spec_is_a_string(spec: object) -> None:
    with pytest.raises(InputError, match="a SPEC of prompts is a string"):
        load_prompts(spec)  # type: ignore[arg-type]
