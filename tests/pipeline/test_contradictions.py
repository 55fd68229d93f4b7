"""Options that contradict each other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.contradictions import check_options
from abliterate.pipeline.options import Options


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mode": "harden"}, "--mode harden trains an adapter"),
        ({"target": "slop"}, "--target slop: say with --harmful which prompts show it, such as builtin:slop"),
        ({"target": "slop", "harmful": "a.txt", "mode": "calm"}, "--mode calm knows refusals alone"),
        ({"target": "slop", "harmful": "a.txt", "keep": "b.txt"}, "--keep knows refusals alone"),
        ({"target": "slop", "harmful": "a.txt", "judge": "org/x"}, "--judge knows refusals alone"),
        ({"thought": 64, "thinking": "off"}, "--thinking off does not go with --thought"),
        ({"thought": 64, "mode": "calm"}, "--mode calm does not go with --thought"),
        ({"thought": 64, "mode": "induce"}, "--mode induce does not go with --thought"),
        ({"thought": 64, "judge": "org/x"}, "--judge does not go with --thought"),
        ({"judge": "org/x", "judge_endpoint": "http://127.0.0.1:9"}, "one judge decides"),
        ({"judge_model": "x"}, "--judge-model names a model on a server; add --judge-endpoint URL"),
        ({"judge": "org/x", "layer": 3}, "--judge counts where a search ends its stages; add --optimize"),
        ({"place": "2"}, "--place says what --form is made of; add --form, or leave --place away"),
        ({"phrases": "builtin:phrases-tiny"}, "--phrases says what --form is made of"),
        (
            {"form": "open", "place": "2"},
            "--place 2: harmless prompts have no mean there .* --direction mean-difference",
        ),
        ({"optimize": True, "strength": 0.5}, "--strength and --optimize"),
        ({"pick": "knee", "layer": 3}, "--pick knee chooses among the edits of a search; add --optimize"),
        ({"pick": "knee", "max_kl": 0.1}, "--max-kl and --pick knee choose in two ways"),
        ({"optimize": False, "target_refusals": 0.1}, "--target-refusals chooses among"),
        ({"layer": 3, "max_kl": 0.1}, "--max-kl chooses among the edits of a search; add --optimize"),
        ({"optimize": True, "target_refusals": -0.1}, "--target-refusals -0.1: give a number from 0 up"),
        ({"optimize": True, "max_kl": float("inf")}, "--max-kl inf: give a number from 0 up"),
        (
            {"edit_rank": 2, "layer": 3},
            "--edit-rank 2: several directions are found by a search; add --optimize, or edit along given ones",
        ),
        ({"optimize": True, "edit_rank": 0}, "--edit-rank 0: give 1 or more"),
        ({"edit_form": "columns", "optimize": True}, "--optimize does not go with --edit-form columns"),
        ({"edit_form": "columns", "strength": 0.5}, "--strength does not go with --edit-form columns"),
        ({"edit_form": "columns", "sites": ("attn",)}, "--sites does not go with --edit-form columns"),
        ({"edit_form": "columns", "save": ("checkpoint", "adapter")}, "--save does not go with --edit-form columns"),
        ({"mode": "calm", "optimize": False}, "--no-optimize and --mode calm: its edit is found by a search"),
        ({"mode": "calm", "form": "open"}, "--form and --mode calm"),
        ({"mode": "calm", "strength": 0.5}, "--strength and --optimize"),
        ({"look_alikes": "mine.txt"}, "--look-alikes is for --mode calm; add that, or leave it away"),
        ({"report_look_alikes": "mine.txt"}, "--report-look-alikes is for --mode calm"),
        ({"max_lost": 0.1}, "--max-lost is of refusals that shall stay; name them with --keep, add --mode calm"),
        ({"keep": "mine.txt", "optimize": True, "max_lost": -0.1}, "--max-lost -0.1: give a share from 0 to 1"),
        ({"keep": "mine.txt", "optimize": False}, "--keep is kept by a search; add --optimize"),
        ({"keep": "mine.txt", "mode": "induce"}, "--keep is kept by a search"),
        ({"mode": "induce", "optimize": True}, "--optimize says how the direction is removed"),
        ({"mode": "induce", "sites": ("attn",)}, "--sites says how the direction is removed"),
        ({"mode": "induce", "edited_dtype": "float32"}, "--edited-dtype says how the direction is removed"),
        ({"mode": "induce", "strength": 0.0}, "--strength 0 adds nothing"),
        ({"mode": "induce", "save": ("checkpoint", "adapter")}, "--mode induce writes one form"),
        ({"save": ("gguf-adapter",)}, "what is measured is a checkpoint or an adapter"),
        ({"leave_out": ("embed",)}, "--leave-out embed is for a GGUF adapter; add gguf-adapter to --save"),
        ({"save": ("adapter",), "edited_dtype": "float32"}, "--edited-dtype says how a checkpoint is written"),
    ],
)
def test_what_contradicts_itself_is_refused(changes: dict[str, Any], message: str) -> None:
    check_options(Options("model", Path("out")))
    with pytest.raises(InputError, match=message):
        check_options(Options("model", Path("out"), **changes))
