"""Which refusals a run keeps."""

from __future__ import annotations

from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.models.generation import REPLY_TOKENS, generate
from abliterate.pipeline.kept import KeptReplies, collect_kept
from abliterate.pipeline.load import Loaded, load_run
from abliterate.progress import SILENT
from abliterate.prompts.splits import HARMFUL, KEPT
from abliterate.replies.refusals import is_refusal
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


def test_only_prompts_that_the_original_refuses_judge_so_that_no_gain_hides_a_loss(tmp_path: Path) -> None:
    loaded = keeping(tmp_path, str(TINY / "look-alikes.txt"))
    select = [*map(tuple, loaded.splits.chat.encode(loaded.splits.kept("select")[KEPT].prompts))]
    said = generate(loaded.model, loaded.tokenizer, select, REPLY_TOKENS)
    refused = [one for one, text in zip(select, loaded.tokenizer.batch_decode(said), strict=True) if is_refusal(text)]
    assert 0 < len(refused) < len(select), "half of them are answered"
    assert [*collect_kept(loaded, SILENT).kept.select] == refused


def test_with_calm_the_harmful_prompts_are_kept_too(tmp_path: Path) -> None:
    alike = str(TINY / "look-alikes.txt")
    loaded = keeping(tmp_path, str(TINY / "harmful.txt"), mode="calm", look_alikes=alike)
    assert [*collect_kept(loaded, SILENT).refused] == [HARMFUL, KEPT]


def test_a_list_of_which_nothing_is_refused_holds_no_refusal_to_keep(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"refuses none of the \d+ train prompts of .*harmless.txt, .* give others with --keep"
    ):
        collect_kept(keeping(tmp_path, str(TINY / "harmless.txt")), SILENT)
