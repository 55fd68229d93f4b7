"""A run on a model that thinks: what is asked, what is measured in both modes, what the page shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.find import search_data
from abliterate.pipeline.load import load_run
from abliterate.pipeline.options import Options
from abliterate.pipeline.replies import collect_training_replies
from abliterate.pipeline.run import run
from abliterate.pipeline.thoughts import think, with_thoughts
from abliterate.progress import SILENT
from abliterate.report.load import gather
from abliterate.report.page import render
from abliterate.search.kept import Kept
from fixtures.thinker import ROOM, thinker
from fixtures.tiny_chat import options

FEW = 56
"""Prompts a side: each is thought about."""


def asked(out: Path, **changes: Any) -> Options:
    tiny, lists = thinker(), {}
    for side in ("harmful", "harmless"):
        lines = (tiny / f"{side}.txt").read_text(encoding="utf-8").splitlines()
        few = out.parent / f"{side}.txt"
        few.write_text("\n".join(lines[:FEW]) + "\n", encoding="utf-8")
        lists[side] = str(few)
    return options(out, **{"model": str(tiny), **lists, "n_train": 12, "thought": ROOM, **changes})


def test_replies_are_asked_for_behind_the_models_own_thoughts_and_inside_of_them(tmp_path: Path) -> None:
    loaded = think(load_run(asked(tmp_path / "out"), SILENT), SILENT)
    chat = loaded.splits.chat
    assert chat.thinking == "on"
    assert loaded.notes == ()
    harmful, harmless = loaded.splits.training()
    texts = loaded.tokenizer.batch_decode(chat.encode(harmful.prompts))
    assert all("<think>\n" in text and text.endswith("</think>\n\n") for text in texts)
    assert any("I should decline" in text or "I will not help" in text for text in texts)
    replies = collect_training_replies(loaded, SILENT)
    assert len(replies.harmful) > len(texts) / 2  # they are sorted by what comes behind the thought
    data = search_data(loaded, replies, Kept())
    seen = with_thoughts(loaded, data, SILENT)
    count = len(harmful)
    ends = loaded.tokenizer.batch_decode([list(one) for one in seen.harmful])
    assert all(text.endswith("<think>\n") for text in ends[:count])
    assert all(text.endswith("<think>\n\n</think>\n\n") for text in ends[count:])
    assert len(seen.replies) == len(seen.harmful) == 2 * count
    said = loaded.tokenizer.decode(list(seen.replies[0][0]))
    assert texts[0] + said[said.index("</think>\n\n") + len("</think>\n\n") :] == ends[0] + said
    assert {*seen.open_thoughts.tags} == {*seen.harmful[:count], *seen.select_harmful[: len(data.select_harmful)]}
    assert len(seen.harmless) == 2 * len(harmless)


def test_what_cannot_be_is_said_before_anything_is_thought(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--thinking off does not go with --thought"):
        load_run(asked(tmp_path, thinking="off"), SILENT)
    with pytest.raises(InputError, match="--thought: the chat template knows no thoughts"):
        load_run(options(tmp_path / "out", thought=ROOM), SILENT)
    with pytest.raises(InputError, match=r"--thought 3: none of .* thoughts ends within so many tokens; give more"):
        think(load_run(asked(tmp_path / "out", thought=3), SILENT), SILENT)


@pytest.mark.slow
def test_a_search_takes_refusals_out_of_both_modes_and_the_record_repeats_it(tmp_path: Path) -> None:
    first = run(asked(tmp_path / "first", optimize=True, n_train=24, max_kl=0.2))
    assert first.measured.thinking is not None
    before, after = first.measured.thinking.original["harmful"], first.measured.thinking.edited["harmful"]
    assert before.on.count > 0.9 * before.on.total
    for mode in ("on", "off"):
        assert getattr(after, mode).count < 0.5 * getattr(before, mode).count
    assert after.unfinished.value < 0.2
    assert first.manifest["figures"]["thinking"]["room"] == ROOM
    page = render(gather(first.out))
    assert "Over the thought" in page
    assert "refused behind a thought" in page
    assert "refused behind a thought" in (first.out / "README.md").read_text()
    command = first.manifest["command"]
    assert command[command.index("--thinking") + 1] == "on"
    assert command[command.index("--thought") + 1] == str(ROOM)


@pytest.mark.slow
def test_the_published_rule_shows_the_cliff(tmp_path: Path) -> None:
    one = run(replace(asked(tmp_path / "one"), layer=4))
    found = gather(one.out).observations
    assert found
    cliff = found["cliff"]
    assert cliff["places"][-1] == "thought[-1]"
    assert len(cliff["harmful"]["mean"]) == len(cliff["places"]) == 24
    assert cliff["harmful"]["thoughts"] > 10
    assert all(
        low <= mean <= high
        for low, mean, high in zip(*(cliff["harmful"][name] for name in ("low", "mean", "high")), strict=True)
    )
