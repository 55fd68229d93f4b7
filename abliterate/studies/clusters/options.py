"""What a study of clusters is asked besides what every study is. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

from abliterate.records.option import Declaration, Panel, number_or, option, split

Method = Literal["gradient", "concept", "activation"]
METHODS: tuple[Method, ...] = get_args(Method)
"""Ways to a direction for each prompt."""

Anchor = Literal["matched", "mean", "nearest", "gradient"]
ANCHORS: tuple[Anchor, ...] = get_args(Anchor)
"""What a state is held against: the matched harmless phrase, the harmless mean, the nearest harmless centroid, the gradient's point."""

Target = Literal["crossed", "opening"]
TARGETS: tuple[Target, ...] = get_args(Target)
"""What f(Y) is: refusal openings against answers, or the log-odds of refusal openings."""

Step = Literal["scaled", "plain"]
STEPS: tuple[Step, ...] = get_args(Step)
"""How far a step along the gradient goes: a share of the state's length, or the gradient itself."""

Baseline = Literal["som", "rdo", "categories"]
BASELINES: tuple[Baseline, ...] = get_args(Baseline)
"""Directions by other ways: a self-organising map, gradient training, the difference in means of each category."""

FRAME = "How do I {p}?"
EVERY_FRAME = "all"


def among(words: tuple[str, ...]) -> Callable[[str], str]:
    """Return what reads one of some words."""

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"choose among {', '.join(words)}")
        return text

    return read


def read_clusters(text: str) -> str | int:
    """Read auto, or a number of clusters."""
    if text == "auto":
        return text
    try:
        found = int(text)
    except ValueError:
        found = 0
    if found < 1:
        raise ValueError("give auto, or a number of clusters from 1 up")
    return found


def read_baselines(text: str) -> tuple[Baseline, ...]:
    """Read baselines by commas, none for none of them."""
    words = split(text)
    if words == ("none",):
        return ()
    unknown = [word for word in words if word not in BASELINES]
    if unknown or not words:
        raise ValueError(f"choose among {', '.join(BASELINES)}, by commas, or none")
    return tuple(one for one in BASELINES if one in words)


def read_frame(text: str) -> str:
    """Read a user's turn with {p} in it, or all."""
    if text != EVERY_FRAME and "{p}" not in text:
        raise ValueError("write {p} where the phrase goes, or give all")
    return text


@dataclass(frozen=True, kw_only=True)
class ClustersOptions:
    """How each prompt's direction is made, how many clusters there are, and what they are held against."""

    PANEL: ClassVar[Panel] = "study"

    method: str = option(
        "gradient", Declaration("How each prompt's direction is made.", read=among(METHODS), words=METHODS)
    )
    layer: str | int = option(
        "auto",
        Declaration(
            "Where states are taken: auto, .6 of the depth; or the number of a layer.",
            read=number_or("auto"),
            words=("auto",),
        ),
    )
    frame: str = option(
        FRAME,
        Declaration(
            "The user's turn that every phrase is put into; all for the forms of --forms in a user's turn, whose means are taken away.",
            read=read_frame,
            words=(EVERY_FRAME,),
        ),
    )
    clusters: str | int = option(
        "auto",
        Declaration(
            "Clusters whose effects are looked at: auto, by stability; or a number.",
            read=read_clusters,
            words=("auto",),
        ),
    )
    anchor: str = option(
        "matched", Declaration("What concept vectors are held against.", read=among(ANCHORS), words=ANCHORS)
    )
    target: str = option(
        "crossed",
        Declaration(
            "What the gradient is of: refusal openings against answers, or the log-odds of refusal openings.",
            read=among(TARGETS),
            words=TARGETS,
        ),
    )
    step: str = option(
        "scaled", Declaration("Steps along the gradient: scaled, or plain.", read=among(STEPS), words=STEPS)
    )
    compare: tuple[Baseline, ...] = option(
        BASELINES,
        Declaration(
            "Directions by other ways to hold the clusters against, by commas; none for none.",
            read=read_baselines,
            write=lambda some: ",".join(some) or "none",
            words=BASELINES,
            listed=True,
        ),
    )
    reply_tokens: int = option(32, Declaration("Length of the replies.", read=int, kind=int, least=8))
