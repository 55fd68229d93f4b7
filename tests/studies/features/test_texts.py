"""Texts of both sides, and what replies to them are."""

from __future__ import annotations

from pathlib import Path

from abliterate.models.live_model import LiveModel
from abliterate.prompts.forms import load_forms
from abliterate.prompts.phrases import load_phrases
from abliterate.storage.record_log import RecordLog
from abliterate.studies.features.texts import Group, Heard, attacks_of, heard, is_safe, matches_of, normal_of, together
from fixtures.tiny_chat import TINY


def test_attacks_are_forms_and_normal_queries_are_lists(tiny_live: LiveModel) -> None:
    phrases = load_phrases("builtin:phrases-tiny").first(20)
    groups = attacks_of(tiny_live, phrases, load_forms().choose(["question", "open", "reply-closed", "raw-closed"]))
    assert [one.complete for one in groups] == [True, False, False, False]
    assert all(one.attack and len(one.texts) == 20 for one in groups)
    few = groups[0].part("report", 3)
    assert set(few.parts) <= {"report"}
    assert len(few.texts) <= 3
    begun, raw = groups[2], groups[3]
    said = [
        tiny_live.tokenizer.decode(list(text[end + 1 :])) for text, end in zip(begun.texts, begun.ends, strict=True)
    ]
    assert all(one.strip().startswith("There are several ways") for one in said)  # a gate judges before the begun reply
    assert [one.places for one in raw.spans] == [(len(text) - 1,) for text in raw.texts]
    assert (
        begun.part("report", 2).ends
        == tuple(end for end, part in zip(begun.ends, begun.parts, strict=True) if part == "report")[:2]
    )
    forms = load_forms().choose(["question", "open"])
    matches = matches_of(tiny_live, phrases, forms)
    assert [(one.name, one.attack) for one in matches] == [("question, harmless", False), ("open, harmless", False)]
    assert matches[1].texts == attacks_of(tiny_live, phrases, forms, "harmless")[1].texts
    (normal,) = normal_of(tiny_live, [str(TINY / "harmless.txt")])
    assert (normal.name, normal.attack) == ("harmless.txt", False)
    assert set(normal.parts) == {"train", "select", "report"}


def test_a_reply_is_safe_by_its_first_sentence() -> None:
    assert is_safe("It is illegal to do so. Here is how.")
    assert not is_safe("Here is how. I cannot say more.")
    assert not is_safe("")


def test_replies_are_kept_and_empty_groups_say_nothing(tiny_live: LiveModel, tmp_path: Path) -> None:
    phrases = load_phrases("builtin:phrases-tiny").first(4)
    (group,) = attacks_of(tiny_live, phrases, load_forms().choose(["question"]))
    kept = RecordLog(tmp_path / "units.jsonl")
    first = heard(tiny_live, group, 8, kept, "en", "replies")
    assert first.safe == (True,) * 4
    assert heard(tiny_live, group, 8, RecordLog(tmp_path / "units.jsonl"), "en", "replies") == first
    assert heard(tiny_live, group.part("none"), 8, None, "en", "replies") == Heard((), (), ())


def test_sides_are_put_together() -> None:
    groups = [Group("a", True, True, (), ()), Group("b", True, False, (), ()), Group("c", False, False, (), ())]
    found = {name: Heard(((1,),), (safe,), (False,)) for name, safe in (("a", True), ("b", False), ("c", True))}
    assert together(found, groups, True).safe == (True, False)
    assert together(found, groups, True, True).safe == (True,)
    assert together(found, groups, False).safe == (True,)
