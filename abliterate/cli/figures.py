"""How figures read: rates and means with their intervals, sizes, proofs, replies on one line, how the models were asked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from abliterate.evaluation.figure_names import mean_text, rate_words

if TYPE_CHECKING:
    from abliterate.evaluation.observation import Reply
    from abliterate.evaluation.statistics import Mean, Rate
    from abliterate.proofs.stream import StreamReport


def bracketed(text: str) -> str:
    """Return a text in which rich takes no bracket for markup."""
    return text.replace("[", "\\[")


def rate(one: Rate) -> str:
    """Return a rate as `3/65 = 5% [2%, 13%]`."""
    return bracketed(rate_words(one))


def mean(one: Mean) -> str:
    """Return a divergence as `0.061 [0.043, 0.082] nats`."""
    low, high = one.interval
    return bracketed(f"{mean_text(one.value, low, high)} nats")


def size(count: int | float) -> str:
    """Return a number of bytes for people."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.2f} GB"


def proof_line(proof: StreamReport) -> str:
    """Return the proof on the stream in one sentence."""
    if not proof.holds:
        return f"NOT PROVED: {proof.largest:.1e} of the stream at its worst layer, {proof.limit:.0e} allowed"
    if proof.kind == "silence":
        return (
            f"silent along the direction at every layer: at most {proof.largest:.1e} of the stream "
            f"({proof.before:.1e} before, {proof.limit:.0e} allowed)"
        )
    return f"equals the hook form at every layer: {proof.largest:.1e} of the stream ({proof.limit:.0e} allowed)"


def shown(reply: Reply) -> str:
    """Return a reply on one line, without thoughts."""
    from abliterate.replies.thinking import visible_reply

    return " ".join(visible_reply(reply.text).split()) or "(empty)"


def conditions(settings: Mapping[str, Any]) -> str:
    """Return in one line how the models were asked, and where each condition comes from."""
    from abliterate.pipeline.conditions import by_origin

    template = settings["chat_template"]
    values = {
        **{name: settings[name] for name in ("system", "thinking")},
        "generation": settings.get("generation", "greedy"),
        "date": settings.get("date"),  # records before there was one say nothing
        "chat_template": template["file"] if template else None,
        **{kind: one["spec"] for kind, one in settings["prompts"].items()},
    }
    return by_origin(values, settings["conditions"])
