"""Turns of the lab: what chat says, at any strength, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from abliterate.chat.sides import ChatSides
from abliterate.errors import InputError
from abliterate.lab.session import BusyError, Session, Wish, edit_of
from fixtures.chat import BAD, GOOD, hooks_of, said


def last(session: Session, wish: Wish) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """What a turn comes to: its replies and what is measured of them."""
    *replies, measured = session.turn(wish)
    return (replies[-1]["replies"] if replies else {}), measured["measured"]


def texts(replies: Mapping[str, Any]) -> dict[str, str]:
    return {role: one["text"] for role, one in replies.items()}


def test_both_sides_say_what_they_say_in_chat(session: Session, sides: ChatSides) -> None:
    name = session.choices[0].name
    expected = {side.role: said(side, BAD, GOOD) for side in sides.sides}
    for place, prompt in enumerate((BAD, GOOD)):
        replies, measured = last(session, Wish(prompt, name))
        assert texts(replies) == {role: replied[place] for role, replied in expected.items()}
        for role, found in measured.items():
            assert all(len(layer) == len(found["pieces"]) for layer in found["components"])
            whole = "".join(found["pieces"])
            assert prompt in whole
            assert whole.count("<|user|>") == 1  # of the last turn alone
            assert "".join(found["pieces"][found["reply_from"] :]) == replies[role]["text"]
    assert "refusal" in last(session, Wish(BAD, name))[0]["original"]["verdict"]
    assert hooks_of(sides.sides[0].model) == 0


@pytest.mark.slow
def test_the_edited_side_replies_again_at_each_strength(session: Session, sides: ChatSides) -> None:
    name = session.choices[0].name
    first, silent = last(session, Wish(BAD, name))
    again, loud = last(session, Wish(None, name, 0.0))
    assert texts(again) == {"edited": first["original"]["text"]}
    assert loud["edited"] == loud["original"] == silent["original"]
    assert max(abs(value) for layer in silent["edited"]["components"] for value in layer) < 1e-3
    assert texts(last(session, Wish(None, name, 1.0))[0]) == {"edited": first["edited"]["text"]}
    other, _ = last(session, Wish(None, session.choices[1].name, 1.0))
    assert other.keys() == {"edited"}
    assert len(session.edited.messages) == 2


@pytest.mark.slow
def test_again_the_draws_are_the_same(begun: Callable[..., Session]) -> None:
    session = begun(temperature=1.0, seed=3)
    name = session.choices[0].name
    first, _ = last(session, Wish(GOOD, name))
    assert texts(last(session, Wish(None, name, 1.0))[0])["edited"] == first["edited"]["text"]


def test_one_turn_at_a_time_which_can_be_stopped(begun: Callable[..., Session]) -> None:
    session = begun(temperature=50.0)  # which never ends by itself
    name = session.choices[0].name
    assert last(session, Wish(None, name)) == ({}, {"original": None, "edited": None})
    turn = session.turn(Wish(GOOD, name))
    next(turn)
    with pytest.raises(BusyError, match="stop it first"):
        next(session.turn(Wish(BAD, name)))
    session.stop()
    *_, replies, measured = turn
    assert "stopped" in replies["replies"]["edited"]["verdict"]
    assert measured["measured"]["edited"] is not None
    session.reset()
    assert session.edited.messages == ()
    gone = session.turn(Wish(GOOD, name))
    next(gone)
    gone.close()  # who asked went away: the next may ask
    session.reset()


def test_what_is_no_wish_is_refused(session: Session) -> None:
    name = session.choices[0].name
    for data, words in (
        (None, "a turn is an object"),
        ({"prompt": "Hi", "direction": name}, "a turn is an object"),
        ({"prompt": 3, "direction": name, "strength": 1}, "are texts"),
        ({"prompt": " ", "direction": name, "strength": 1}, "there is no prompt"),
        ({"prompt": "Hi", "direction": name, "strength": True}, "is a number"),
    ):
        with pytest.raises(InputError, match=words):
            Wish.from_json(data)
    for strength in (float("nan"), 1e9):
        with pytest.raises(InputError, match="must be a finite number"):
            next(session.turn(Wish(GOOD, name, strength)))
    with pytest.raises(InputError, match="no such direction"):
        next(session.turn(Wish(GOOD, "resid.99")))
    with pytest.raises(InputError, match="/reset begins a new one"):
        next(session.turn(Wish("shed " * 2000, name)))
    assert texts(last(session, Wish(GOOD, name))[0]).keys() == {"original", "edited"}


def test_what_the_pickers_offer(session: Session) -> None:
    offered = edit_of(session)
    assert offered["directions"][0] == {"name": session.choices[0].name, "layer": session.choices[0].layer}
    assert (offered["depth"], offered["adjustable"], offered["roles"]) == (8, True, ["original", "edited"])


def test_an_edit_that_is_no_hooks_is_measured_along_what_is_picked(session: Session) -> None:
    own, other = (one.name for one in session.choices[:2])
    _, before = last(session, Wish(BAD, own))
    session.edited.side = replace(session.edited.side, edit=None)
    assert not session.adjustable
    replies, measured = last(session, Wish(None, other, 0.5))
    assert replies == {}
    assert [len(one.messages) for one in session.conversations] == [2, 2]
    for role, found in measured.items():
        assert found["pieces"] == before[role]["pieces"]
        assert found["components"] != before[role]["components"]
