"""Kept replies: torn lines, several writers, and folders that cannot be used."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from abliterate.errors import InputError
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


def test_a_cache_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"cannot read .*file.*: Not a directory; choose another cache folder"):
        ReplyCache(tmp_path / "file").under({})
    kept = ReplyCache(tmp_path).under({})
    kept.path.mkdir()
    with pytest.raises(InputError, match=r"cannot keep replies in .*: Is a directory; free space there or choose"):
        kept.add("a", CachedReply("a", "stop", 1))
    with pytest.raises(InputError, match=r"cannot read .*: Is a directory; choose another cache folder"):
        ReplyCache(tmp_path).under({})


@pytest.mark.parametrize(
    "line",
    [
        '{"key": ["k"], "text": "x", "finish": "stop", "tokens": 1}',
        '{"key": "k", "text": 5, "finish": "stop", "tokens": 1}',
        '{"key": "k", "text": "x", "finish": null, "tokens": 1}',
        '{"key": "k", "text": "x", "finish": "stop", "tokens": "many"}',
        '{"key": "k", "text": "x"}',
        "[" * 100_000,
    ],
)
def test_a_record_of_another_shape_counts_as_none(tmp_path: Path, line: str) -> None:
    path = ReplyCache(tmp_path).under({}).path
    path.write_text(line + "\n")
    kept = ReplyCache(tmp_path).under({})
    assert kept.known("k") is None
    kept.add("k", CachedReply("x", "stop", None))
    assert ReplyCache(tmp_path).under({}).known("k") == CachedReply("x", "stop", None, cached=True)


def test_a_field_more_does_not_matter(tmp_path: Path) -> None:
    path = ReplyCache(tmp_path).under({}).path
    path.write_text('{"key": "k", "text": "x", "finish": "stop", "tokens": 1, "later": true}\n')
    assert ReplyCache(tmp_path).under({}).known("k") == CachedReply("x", "stop", 1, cached=True)
