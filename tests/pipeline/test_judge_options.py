"""A judge of the ends of a search's stages: who it is, what it counts, and what a record says of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from abliterate.commands.reproduce import repeated_options
from abliterate.errors import InputError
from abliterate.pipeline.find import verdicts
from abliterate.pipeline.judge_options import JudgeOptions
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.pipeline.run import run
from abliterate.progress import SILENT, Progress
from abliterate.replies.labels import Label
from fixtures.search import short_stages
from fixtures.tiny_chat import options
from servers.chat_server import ChatServer


@dataclass(frozen=True)
class WordJudge:
    """What is one word is refused."""

    name: str

    def judge(self, pairs: Sequence[tuple[str, str]], progress: Progress = SILENT) -> list[Label]:
        return ["refused" if reply == self.name else "complied" for _, reply in pairs]


SEARCHED = ["abliterate", "org/model", "--optimize", "--out", "edited"]


def test_only_what_is_asked_for_is_judged() -> None:
    assert not JudgeOptions().judged
    assert JudgeOptions(judge="org/x").judged
    JudgeOptions(judge="org/x").check_judge(True)


def test_a_reply_counts_where_the_judge_calls_it_refused() -> None:
    replies = ["red", "blue", "red"]
    assert verdicts(WordJudge("red"), ["a", "b", "c"], SILENT, replies) == [True, False, True]


def test_who_repeats_a_judged_run_names_the_judge(tmp_path: Path) -> None:
    manifest = {"command": SEARCHED, "source": {"model": "org/model", "revision": None}, "search": {"judge": "org/x"}}
    with pytest.raises(
        InputError, match="judged by 'org/x', which a manifest may not choose; say who shall with --judge"
    ):
        repeated_options(manifest, ReproduceOptions(), tmp_path, tmp_path / "again")
    given = ReproduceOptions(judge="org/y")
    assert repeated_options(manifest, given, tmp_path, tmp_path / "again").judge == "org/y"


@pytest.mark.slow
def test_a_served_judge_decides_what_the_points_of_a_search_count(tmp_path: Path) -> None:
    with ChatServer() as server, short_stages():
        server.reply = lambda request: "refused"
        found = run(options(tmp_path / "edited", optimize=True, judge_endpoint=server.url, n_train=32))
        search = found.manifest["search"]
        assert {one["refusals"] for one in search["points"]} == {search["points"][0]["prompts"]}
        assert server.requests
    assert json.loads((found.out / "abliterate.json").read_text())["search"]["judge"] == "the served model"
    assert "--judge" not in " ".join(found.manifest["command"])
