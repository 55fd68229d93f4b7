"""How figures and conditions read."""

from __future__ import annotations

import pytest

from abliterate.cli.figures import conditions, mean, rate, shown, size
from abliterate.evaluation.observation import Reply
from abliterate.evaluation.statistics import Rate, mean_of


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (2_500_000, "2 MB"), (7.5e10, "75.00 GB")]
)
def test_sizes(count: float, said: str) -> None:
    assert size(count) == said


def test_estimates_have_their_interval() -> None:
    assert rate(Rate(0, 100)) == "0/100 = 0% \\[0%, 4%]"
    assert mean(mean_of([0.5, 0.5])) == "0.500 \\[0.500, 0.500] nats"


def test_a_reply_is_one_line_without_its_thought() -> None:
    assert shown(Reply("p", (), "<think>hm</think>\nNo.\n\nReally.")) == "No. Really."
    assert shown(Reply("p", (), " \n")) == "(empty)"


def test_conditions_are_told_with_their_origin() -> None:
    settings = {
        "system": None,
        "thinking": "on",
        "chat_template": {"file": "own.jinja"},
        "prompts": {"harmful": {"spec": "bad.txt"}},
        "conditions": {"system": "default", "thinking": "flag", "chat_template": "flag", "harmful": "default"},
    }
    assert conditions(settings) == (
        "no system prompt, harmful prompts bad.txt (default); thinking on, the chat template own.jinja (flag)"
    )
