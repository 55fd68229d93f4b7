"""What a study of phases is asked besides what every study is. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.records.option import Declaration, Panel, number_or, option, split

Way = Literal["dim", "optimised", "one-shot", "forward", "attribution"]
WAYS: tuple[Way, ...] = get_args(Way)
"""Ways to a safety vector: difference in means, optimisation over prompts and for one of them, reading the target, attribution."""

ALPHAS = (0.25, 0.5, 1.0, 1.4, 2.0)
"""Times the length of the difference in means, which every vector is given; one is chosen on the select part."""

COUNT = 60


def read_ways(text: str) -> tuple[Way, ...]:
    """Read ways by commas."""
    words = split(text)
    unknown = [word for word in words if word not in WAYS]
    if unknown or not words:
        raise ValueError(f"choose among {', '.join(WAYS)}, by commas")
    return tuple(way for way in WAYS if way in words)


@dataclass(frozen=True, kw_only=True)
class PhasesOptions:
    """Phrases, lengths, the original, and the ways to a safety vector."""

    PANEL: ClassVar[Panel] = "study"

    against: str | None = option(
        None,
        Declaration("The original of an edited MODEL: its replies come first, and what the edit changed is tested."),
    )
    count: int = option(
        COUNT, Declaration("How many of the phrases are asked, the first ones.", read=int, kind=int, least=8)
    )
    reply_tokens: int = option(128, Declaration("Length of the replies.", read=int, kind=int, least=8))
    settle: int = option(
        2,
        Declaration(
            "Segments after a turn in which what was left must not come back; else it was an interruption.",
            read=int,
            kind=int,
            least=0,
        ),
    )
    layer: str | int = option(
        "auto",
        Declaration(
            "Where vectors are made and added: auto, .6 of the depth; or the number of a layer.",
            read=number_or("auto"),
            words=("auto",),
        ),
    )
    vector: tuple[Way, ...] = option(
        WAYS,
        Declaration("Ways to a safety vector, by commas.", read=read_ways, write=",".join, words=WAYS, listed=True),
    )
    judge: str | None = option(
        None,
        Declaration(
            "A third labeller beside rules and examples: a sequence classifier for refusals, Hub id or folder."
        ),
    )
    judge_endpoint: str | None = option(
        None, Declaration("Let a model on an OpenAI-compatible server be the third labeller.")
    )
    judge_model: str | None = option(None, Declaration("Its name there. \\[default: the only one]"))

    def check(self) -> None:
        """Raise InputError for two judges, and for the name of a served one without its address."""
        if self.judge and self.judge_endpoint:
            raise InputError("--judge and --judge-endpoint: one judge labels; leave one of them away")
        if self.judge_model and not self.judge_endpoint:
            raise InputError("--judge-model names a model on a server; add --judge-endpoint URL")
        if self.judge_endpoint:
            require("endpoint", "--judge-endpoint")
