"""What the three verbs of features are asked besides what model and how. Imports nothing that takes time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.records.option import Declaration, Panel, one_of, option, split

GATES = ("prompt", "token")

NORMAL = ("builtin:everyday", "builtin:harmless", "builtin:look-alikes")
"""Lists of normal queries."""

RULES = ("prior", "published", "nearest")
"""As `method.py` has them, which takes time to import."""


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Which rows."""

    PANEL: ClassVar[Panel] = "study"

    sae: str | None = option(
        None,
        Declaration(
            "Rows: the folder or Hub id of an SAE (its features), or a .safetensors file of a run, a search or a study. "
            "\\[required]"
        ),
    )
    layer: int | None = option(
        None, Declaration("Layer of rows that do not tell theirs: resid[layer].", read=int, kind=int, least=0)
    )


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(RowOptions):
    """Which rows are explained, and by which words."""

    PANEL: ClassVar[Panel] = "study"

    row: tuple[str, ...] = option(
        (),
        Declaration("Explain of a file the rows of these names, by commas.", read=split, write=",".join, listed=True),
    )
    edited: str | None = option(
        None,
        Declaration(
            "An edit of MODEL, folder or Hub id: the rows whose activity it changed most are told, the same texts in both."
        ),
    )
    words: int = option(10, Declaration("Words for each row.", read=int, kind=int, least=1))
    rule: str = option(
        "prior",
        Declaration(
            "By which words are chosen: prior (mutual information), published (the same without the prior), nearest.",
            read=one_of(RULES),
            words=RULES,
        ),
    )
    temperature: float = option(
        1.0, Declaration("Divides the scores in p(row | word): below 1 rows compete harder.", read=float, kind=float)
    )
    vocabulary: Path | None = option(
        None, Declaration("A file of words to choose from. \\[default: those of the corpus]", read=Path, kind=Path)
    )
    most_words: int = option(5000, Declaration("Words of the vocabulary at most.", read=int, kind=int, least=2))
    judge_endpoint: str | None = option(
        None,
        Declaration("Let a model on an OpenAI-compatible server name each row in a line, from its words and texts."),
    )
    judge_model: str | None = option(None, Declaration("Its name there. \\[default: the only one]"))

    def check(self) -> None:
        """Raise InputError for the name of a served model without its address, and where the package for it is missing."""
        if self.judge_model and not self.judge_endpoint:
            raise InputError("--judge-model names a model on a server; add --judge-endpoint URL")
        if self.judge_endpoint:
            require("endpoint", "--judge-endpoint")


def read_strength(text: str) -> float:
    """Read a number."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("give auto or a finite number")
    return number


@dataclass(frozen=True, kw_only=True)
class SteerOptions(RowOptions):
    """By which rows, how strongly, and what is measured."""

    PANEL: ClassVar[Panel] = "study"

    row: tuple[str, ...] = option(
        (),
        Declaration("Steer by the rows of a file of these names, by commas.", read=split, write=",".join, listed=True),
    )
    concept: str = option(
        "safety",
        Declaration(
            "Which rows: safety, or words by commas (by words); data (those that part refused from answered prompts best); "
            "ids:3,17; rows, all of them.",
            words=("safety", "data", "rows"),
        ),
    )
    amplify: float | None = option(
        None,
        Declaration(
            "Times that what is along the rows is added once more; auto tries some.",
            read=read_strength,
            words=("auto",),
            none="auto",
            none_shown=True,
        ),
    )
    calibrate: float | None = option(
        None,
        Declaration(
            "Length that is set along the mean of the rows, in units of the states' median distance from their mean; auto tries "
            "some.",
            read=read_strength, words=("auto",), none="auto", none_shown=True,
        ),
    )  # fmt: skip
    raise_to: float | None = option(
        None,
        Declaration(
            "Raise rows that fall short of this value too, in the same units. \\[default: not tried]",
            read=float,
            kind=float,
            flag="--raise",
        ),
    )
    when: str = option(
        "prompt",
        Declaration(
            "How the gate decides: prompt, once at its last token; token, at each token by itself.",
            read=one_of(GATES), words=GATES,
        ),
    )  # fmt: skip
    orthogonal: bool = option(
        False, Declaration("Hold rows apart: the pseudo-inverse in place of the transpose.", kind=bool)
    )
    keep_norm: bool = option(False, Declaration("Scale each state back to its length.", kind=bool))
    normal: tuple[str, ...] = option(
        NORMAL,
        Declaration(
            "Lists of normal queries, by commas, as --harmless of a run.",
            read=split,
            write=",".join,
            words=NORMAL,
            listed=True,
        ),
    )
    per_group: int = option(24, Declaration("Texts of each form and list, at most.", read=int, kind=int, least=4))
    reply_tokens: int = option(32, Declaration("Length of the replies.", read=int, kind=int, least=8))


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What is learned, and from how much."""

    PANEL: ClassVar[Panel] = "study"

    layer: int | None = option(
        None,
        Declaration(
            "Layer whose resid is learned. \\[default: the one at .6 of the depth]", read=int, kind=int, least=1
        ),
    )
    features: int = option(2048, Declaration("Features to learn.", read=int, kind=int, least=2))
    active: int = option(16, Declaration("Features that are active at each token (k).", read=int, kind=int, least=1))
    tokens: int = option(200_000, Declaration("Tokens to capture at most.", read=int, kind=int, least=1))
    epochs: int = option(12, Declaration("Times that each token is seen.", read=int, kind=int, least=1))
    batch: int = option(512, Declaration("Tokens of a step.", read=int, kind=int, least=1))
