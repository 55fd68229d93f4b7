"""In what an evaluation was made otherwise than the run."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from abliterate.report.unlike import unlike
from fixtures import report_records

RUN = report_records.manifest()
ALIKE: dict[str, Any] = {
    "system": "Be brief; it's late", "thinking": "auto", "chat_template": None, "dtype": "auto", "reply_tokens": 32,
    "judge": "rules", "split": "report", "served": False,
    "prompts": {
        side: {"spec": f"{side}.txt", "list": record["digest"], "count": record["report"]}
        for side, record in RUN["prompts"].items()
    },
}  # fmt: skip


def changed(side: str, **record: Any) -> dict[str, Any]:
    prompts = copy.deepcopy(ALIKE["prompts"])
    prompts[side] |= record
    return {"prompts": prompts}


def test_what_was_made_alike_differs_in_nothing() -> None:
    assert unlike(RUN, ALIKE) == []
    assert unlike({**RUN, "figures": None}, {}) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"system": None}, "system prompt: \u201cBe brief; it's late\u201d in the run, none in the evaluation"),
        ({"date": "2024-02-29"}, "date in the template: none in the run, 2024-02-29 in the evaluation"),
        ({"thinking": "off"}, "thinking: auto in the run, off in the evaluation"),
        ({"dtype": "float32"}, "dtype: auto in the run, float32 in the evaluation"),
        ({"reply_tokens": 8}, "reply tokens: 32 in the run, 8 in the evaluation"),
        ({"judge": "org/x"}, "judge: rules in the run, org/x in the evaluation"),
        ({"split": "all"}, "prompts: those of the report split in the run, all of each list in the evaluation"),
        ({"served": True}, "replies: by the files in the run, by a server in the evaluation"),
        (
            {"chat_template": {"file": "x.jinja", "digest": "abcdef0123456789"}},
            "chat template: the model's own in the run, a file (abcdef012345) in the evaluation",
        ),
        (
            changed("harmful", list="other"),
            "harmful prompts: harmful.txt in the run, harmful.txt in the evaluation, with other prompts",
        ),
        (changed("harmless", count=3), "number of harmless prompts: 25 in the run, 3 in the evaluation"),
        ({"prompts": {"harmful": ALIKE["prompts"]["harmful"]}}, "harmless prompts: harmless.txt in the run, none in the evaluation"),
        ({"prompts": None}, "prompts: the evaluation does not say which"),
    ],
    ids=str,
)  # fmt: skip
def test_each_difference_is_said_in_words(change: dict[str, Any], said: str) -> None:
    assert unlike(RUN, {**ALIKE, **change}) == [said]


def test_what_an_evaluation_does_not_say_is_no_agreement() -> None:
    silent = {name: value for name, value in ALIKE.items() if name != "chat_template"}
    assert unlike(RUN, silent) == ["chat template: the model's own in the run, does not say in the evaluation"]


def test_a_command_of_another_version_says_nothing() -> None:
    found = unlike({**RUN, "command": ["abliterate", "x", "--unheard-of", "y"]}, ALIKE)
    assert found == ["the run's command cannot be read by this version: nothing says whether both were made alike"]
