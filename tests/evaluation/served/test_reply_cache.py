"""Kept replies: torn lines, several writers, and folders that cannot be used."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from abliterate.evaluation.served.reply_cache import CachedReply, ReplyCache, reply_key


def test_a_torn_line_is_skipped(tmp_path: Path) -> None:
    cache, answers = ReplyCache(tmp_path), [CachedReply(f"Grüße\n{number}", "stop", number) for number in range(3)]
    kept = cache.under({"model": "tiny"})
    for number, answer in enumerate(answers):
        kept.add(str(number), answer)
    whole = kept.path.read_bytes()
    last = len(whole) - whole.rindex(b"\n", 0, -1)
    for cut in range(1, last):
        kept.path.write_bytes(whole[:-cut])
        again = cache.under({"model": "tiny"})
        assert [again.known(str(number)) for number in range(2)] == [replace(one, cached=True) for one in answers[:2]]
        again.add("new", answers[2])
        after = cache.under({"model": "tiny"})
        assert after.known("new") == again.known("new") == replace(answers[2], cached=True)
        assert len(after) == (4 if cut == 1 else 3)


def test_two_writers_lose_nothing(tmp_path: Path) -> None:
    def write(name: str) -> None:
        kept = ReplyCache(tmp_path).under({})
        for number in range(100):
            kept.add(f"{name} {number}", CachedReply(name * 5000, "stop", None))

    threads = [threading.Thread(target=write, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    kept = ReplyCache(tmp_path).under({})
    assert len(kept) == 200
    assert kept.known("b 99") == CachedReply("b" * 5000, "stop", None, cached=True)
    assert kept.known("c 0") is None


def test_a_conversation_is_known_by_what_is_said_in_it() -> None:
    assert reply_key([{"role": "user", "content": "a"}]) == reply_key([{"content": "a", "role": "user"}])
    assert reply_key([{"role": "user", "content": "a"}]) != reply_key([{"role": "user", "content": "b"}])


def test_a_cache_that_cannot_be_used_ends_nothing_and_is_named_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    answer = CachedReply("a", "stop", 1)
    unusable = ReplyCache(tmp_path / "file")
    for key in "ab":
        kept = unusable.under({})
        kept.add(key, answer)
        assert kept.known(key) is None
        assert len(kept) == 0
    (note,) = unusable.notes
    assert "cannot read" in note
    assert "another command will ask for them again" in note
    full = ReplyCache(tmp_path / "folder")
    kept = full.under({})
    kept.path.mkdir(parents=True)
    kept.add("a", answer)
    assert kept.known("a") is None
    assert "Is a directory" in full.notes[0]
    good = ReplyCache(tmp_path / "good")
    good.under({}).add("a", answer)
    assert good.notes == ()


@pytest.mark.parametrize(
    "line",
    [
        '{"key": ["a"]}',
        '{"key": "a"}',
        '{"key": "a", "text": "x"}',
        '{"key": "a", "text": 5, "finish": "stop", "tokens": 1}',
        '{"key": "a", "text": "x", "finish": "stop", "tokens": "many"}',
        "[" * 100_000,
        '{"key": "a", "text": "\\ud800", "finish": "stop", "tokens": 1}',
    ],
)
def test_a_damaged_line_is_asked_for_again(tmp_path: Path, line: str) -> None:
    kept = ReplyCache(tmp_path).under({})
    kept.add("b", CachedReply("b", "stop", 1))
    with kept.path.open("a") as file:
        file.write(line + "\n")
    again = ReplyCache(tmp_path).under({})
    assert again.known("a") is None
    assert again.known("b") == CachedReply("b", "stop", 1, cached=True)


def test_a_field_more_is_of_a_later_version_and_does_not_hurt(tmp_path: Path) -> None:
    kept = ReplyCache(tmp_path).under({})
    kept.path.write_text('{"key": "a", "text": "x", "finish": "stop", "tokens": 1, "more": 1}\n')
    assert ReplyCache(tmp_path).under({}).known("a") == CachedReply("x", "stop", 1, cached=True)
