"""Which refusals a run keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.kept import KeptReplies, collect_kept
from abliterate.pipeline.load import Loaded, load_run
from abliterate.progress import SILENT
from abliterate.prompts.splits import HARMFUL, KEPT
from abliterate.search.kept import KEPT_TOKENS
from fixtures.tiny_chat import TINY, options
from fixtures.unfinished import QUICK


def keeping(tmp_path: Path, keep: str, **changes: object) -> Loaded:
    return load_run(options(tmp_path / "edited", keep=keep, optimize=True, **{**QUICK, **changes}), SILENT)


def test_without_a_list_nothing_is_asked(loaded: Loaded) -> None:
    assert collect_kept(loaded, SILENT) == KeptReplies()


def test_the_beginnings_of_the_models_own_refusals_are_kept(tmp_path: Path) -> None:
    loaded = keeping(tmp_path, str(TINY / "look-alikes.txt"))
    found = collect_kept(loaded, SILENT)
    train = loaded.splits.kept("train")[KEPT]
    assert 0 < len(found.refused[KEPT]) == len(found.kept.refusals) < len(train), "half of them are answered"
    prompts = loaded.splits.chat.encode([train.prompts[place] for place in found.refused[KEPT]])
    assert [one.prompt for one in found.kept.refusals] == [*map(tuple, prompts)]
    assert {len(one.reply) for one in found.kept.refusals} == {KEPT_TOKENS}
    assert len(found.kept.select) == len(loaded.splits.kept("select")[KEPT])


def test_with_calm_the_harmful_prompts_are_kept_too(tmp_path: Path) -> None:
    alike = str(TINY / "look-alikes.txt")
    loaded = keeping(tmp_path, str(TINY / "harmful.txt"), mode="calm", look_alikes=alike)
    assert [*collect_kept(loaded, SILENT).refused] == [HARMFUL, KEPT]


def test_a_list_of_which_nothing_is_refused_holds_no_refusal_to_keep(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"refuses none of the \d+ train prompts of .*harmless.txt, .* give others with --keep"
    ):
        collect_kept(keeping(tmp_path, str(TINY / "harmless.txt")), SILENT)
