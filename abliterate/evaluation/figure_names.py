"""What every figure is called, in which unit, and how it is written: terminal, page and card ask here.

The names of the figures of an evaluation are those of `evaluation.json` too. What is written here is plain text: the
page adds its spaces and signs, the card its own sentence around.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from abliterate.evaluation.statistics import Rate

Unit = Literal["nats", "share", "tokens"]

DIGITS: Mapping[Unit, int] = {"nats": 3, "share": 3, "tokens": 1}
"""Digits behind the point of a mean in the terminal."""

WHERE_ANSWERED = "where answered"
KL_LAST_TOKEN = "KL, last prompt token"
KL_LAST_TOKEN_ANSWERED = f"{KL_LAST_TOKEN}, {WHERE_ANSWERED}"
KL_FIRST_REPLY_TOKEN = "KL, first reply token"
KL_OVER_REPLIES = "KL, over the original's replies"
AGREEMENT = "top-1 agreement"
LOSS_ON_REPLIES = "cross-entropy, original's replies"
LOSS_ON_TEXT = "cross-entropy, text"

UNITS: Mapping[str, Unit] = {
    KL_LAST_TOKEN: "nats",
    KL_LAST_TOKEN_ANSWERED: "nats",
    KL_FIRST_REPLY_TOKEN: "nats",
    KL_OVER_REPLIES: "nats",
    AGREEMENT: "share",
    LOSS_ON_REPLIES: "nats",
    LOSS_ON_TEXT: "nats",
}
"""The unit of each figure that has one name; refusals and lengths of replies are named by the kind of prompts."""

DIVERGENCES: Mapping[str, str] = {
    "first_token": KL_LAST_TOKEN,
    "first_token_answered": KL_LAST_TOKEN_ANSWERED,
    "over_replies": KL_OVER_REPLIES,
}
"""The divergences of every run, by their keys in the manifest."""


def refused(kind: str) -> str:
    """Return what the refusals of a kind of prompts are called where other labels stand beside them."""
    return f"refused, {kind}"


LATE = 32
"""Tokens of a reply after which a refusal that only then begins is late: a short reply would not have shown it."""


def refused_late(kind: str) -> str:
    """Return what is called how many replies to a kind of prompts turn to safety only after so many tokens."""
    return f"{refused(kind)}, only after token {LATE}"


def refused_in(kind: str, category: str) -> str:
    """Return what the refusals in one category of a kind of prompts are called."""
    return f"{refused(kind)}: {category}"


def prompts_refused(kind: str) -> str:
    """Return what they are called where they stand alone."""
    return f"{kind.capitalize()} prompts refused"


def behaviour_of(manifest: Mapping[str, Any]) -> str | None:
    """Return the behaviour that a run, or the run that an edit was taken from, counted in place of refusals; None for those."""
    found = manifest.get("target") or (manifest.get("run") or {}).get("target")
    return None if found is None else str(found)


OTHERS_REFUSED: Mapping[str, str] = {
    "look-alikes": "Look-alikes refused",
    "keep": "Prompts of --keep refused",
}
"""What refusals of prompts that only some runs ask are called, by their kinds."""


def others_refused(figures: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the rates of these prompts before and after by what they are called, of those that a run has measured."""
    before, after = (figures[model].get("other_refusals") or {} for model in ("original", "edited"))
    return {title: (before.get(kind), after[kind]) for kind, title in OTHERS_REFUSED.items() if kind in after}


KL_OVER_THOUGHTS = "KL, over the original's thoughts"

MODES_REFUSED: Mapping[str, str] = {
    "off": "refused without a thought",
    "on": "refused behind a thought",
    "unfinished": "with a thought that does not end",
}
"""What the rates of a model that thinks are called, by their keys in the manifest."""


def modes_refused(figures: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Return the rates of both modes before and after by what they are called, of a model that was asked to think."""
    thinking = figures.get("thinking")
    if not thinking:
        return {}
    return {
        f"{kind.capitalize()} prompts {title}": (before[mode], thinking["edited"][kind][mode])
        for kind, before in thinking["original"].items()
        for mode, title in MODES_REFUSED.items()
    }


def divergences(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return the divergences that a run has measured by what they are called, None for one that it has not."""
    found = {title: figures["kl"].get(kind) for kind, title in DIVERGENCES.items()}
    return found | ({KL_OVER_THOUGHTS: thinking["kl_over_thoughts"]} if (thinking := figures.get("thinking")) else {})


def reply_length(kind: str) -> str:
    """Return what the length of the replies to a kind of prompts is called."""
    return f"reply length, {kind}"


def with_unit(name: str, unit: str | None) -> str:
    """Return a figure's name and its unit; a share has none."""
    return name if not unit or unit == "share" else f"{name} ({unit})"


def percent(value: float, digits: int) -> str:
    """Return a share in per cent."""
    return f"{value:.{digits}%}"


def rate_text(count: int, total: int, share: str, interval: str) -> str:
    """Return a rate as `3/65 = 5% [1%, 13%]`."""
    return f"{count}/{total} = {share} {interval}"


def rate_words(rate: Rate) -> str:
    """Return a rate as `3/65 = 5% [2%, 13%]`, and of nothing as `none`."""
    if not rate.total:
        return "none"
    low, high = (percent(end, 0) for end in rate.interval)
    return rate_text(rate.count, rate.total, percent(rate.value, 0), interval_text(low, high))


def interval_text(low: str, high: str) -> str:
    """Return a 95% interval as `[1%, 13%]`."""
    return f"[{low}, {high}]"


def mean_text(value: float, low: float, high: float, digits: int = 3) -> str:
    """Return a mean as `0.061 [0.043, 0.082]`."""
    return f"{value:.{digits}f} {interval_text(f'{low:.{digits}f}', f'{high:.{digits}f}')}"


def p_text(p: float) -> str:
    """Return a p-value as `p 0.012` or `p 1e-05`."""
    return f"p {p:.3f}" if p >= 0.001 else f"p {p:.0e}"
