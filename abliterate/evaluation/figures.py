"""The figures of an evaluation: of one model, of the one it is held against, and of what lies between, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from abliterate.evaluation import figure_names as names
from abliterate.evaluation.divergence import Along
from abliterate.evaluation.figure_names import Unit
from abliterate.evaluation.observation import Reply
from abliterate.evaluation.paired import Changed, PairedDifference, paired_changes, paired_difference
from abliterate.evaluation.statistics import Mean, Rate, mean_of
from abliterate.models.batches import shared_prefix
from abliterate.prompts.prompt import category_of
from abliterate.replies.labels import REPLY_LABELS, Label
from abliterate.replies.refusals import is_refusal

LENGTHS = (8, 16, 32, 64, 128, 256)
"""Reply lengths at which refusals are counted again: a greedy reply that is cut is the shorter greedy reply."""

NO_CATEGORY = "(no category)"
"""What prompts without one are called beside prompts with one."""


@dataclass(frozen=True)
class JudgedReplies:
    """Replies to prompts of one kind, and a label for each."""

    replies: tuple[Reply, ...]
    labels: tuple[Label, ...]

    def rate(self, label: Label) -> Rate:
        """Return how many replies have a label."""
        return Rate(self.labels.count(label), len(self.labels))

    @property
    def refused(self) -> list[bool]:
        """Return which replies are refusals, in the judge's eyes."""
        return [label == "refused" for label in self.labels]

    @property
    def lengths(self) -> list[float]:
        """Return the lengths in tokens that are known."""
        return [float(reply.length) for reply in self.replies if reply.length is not None]

    def rates_json(self) -> dict[str, object]:
        """Return the rate of each label."""
        return {label: self.rate(label).to_json() for label in REPLY_LABELS}

    def by_category(self) -> dict[str, Rate]:
        """Return how many replies are refusals in each category of the prompts; nothing where the list names none."""
        given = [category_of(reply.prompt) for reply in self.replies]
        named = {
            category: [refused for one, refused in zip(given, self.refused, strict=True) if one == category]
            for category in dict.fromkeys(given)
        }
        if set(named) <= {None}:
            return {}
        return {category or NO_CATEGORY: Rate(sum(found), len(found)) for category, found in named.items()}

    def replies_json(self) -> list[dict[str, object]]:
        """Return every prompt with reply and label, and its category where it has one."""
        return [
            {"prompt": str(reply.prompt), "reply": reply.text, "label": label, "refused": label == "refused"}
            | ({} if (category := category_of(reply.prompt)) is None else {"category": category})
            for reply, label in zip(self.replies, self.labels, strict=True)
        ]


@dataclass(frozen=True)
class Figure:
    """One number about a model, or about what lies between two; what is None was not measured or does not apply."""

    name: str
    unit: Unit
    model: Mean | None
    against: Mean | None = None
    difference: PairedDifference | None = None

    def to_json(self) -> dict[str, object]:
        """Return estimates with intervals, and the test on the difference."""
        return {
            "unit": self.unit,
            "model": self.model.to_json() if self.model else None,
            "against": self.against.to_json() if self.against else None,
            "difference": self.difference.to_json() if self.difference else None,
        }


def named_figure(name: str, model: Mean | None) -> Figure:
    """Return a figure of the table of names, in its unit."""
    return Figure(name, names.UNITS[name], model)


def paired_figure(name: str, unit: Unit, model: Sequence[float], against: Sequence[float] | None) -> Figure:
    """Return a figure of one model, and its difference from the other's on the same prompts where there is one."""
    if against is None:
        return Figure(name, unit, mean_of(model))
    return Figure(name, unit, mean_of(model), mean_of(against), paired_difference(against, model))


def length_figure(kind: str, model: JudgedReplies, against: JudgedReplies | None) -> Figure:
    """Return how long replies are; without a test where a server has not told the length of each."""
    name = names.reply_length(kind)
    if against is None or all(len(one.lengths) == len(one.replies) for one in (model, against)):
        return paired_figure(name, "tokens", model.lengths, against.lengths if against else None)
    return Figure(name, "tokens", mean_of(model.lengths), mean_of(against.lengths))


def refusals_changed(model: JudgedReplies, against: JudgedReplies) -> Changed:
    """Return how many prompts are refused that were not, how many no longer, and the test."""
    return paired_changes(against.refused, model.refused)


def damage(along: Sequence[Along], original: Sequence[Reply]) -> list[Figure]:
    """Return what the edit did to predictions along the original's replies to harmless prompts.

    The prompts that the original itself refuses are left out of the figure that says so.
    """
    last = [float(one.kl[0]) for one in along]
    answered = [kl for kl, reply in zip(last, original, strict=True) if not reply.refused]
    beginning = shared_prefix([reply.tokens for reply in original], keep=1)
    first = [float(one.kl[min(beginning, len(one.kl) - 1)]) for one in along]
    said = [one for one in along if len(one.original_loss)]
    losses = [[float(loss.mean()) for loss in (one.edited_loss, one.original_loss)] for one in said]
    return [
        named_figure(names.KL_LAST_TOKEN, mean_of(last)),
        named_figure(names.KL_LAST_TOKEN_ANSWERED, mean_of(answered)),
        named_figure(names.KL_FIRST_REPLY_TOKEN, mean_of(first)),
        named_figure(names.KL_OVER_REPLIES, mean_of([float(one.kl.mean()) for one in along])),
        named_figure(names.AGREEMENT, mean_of([float(one.agree.double().mean()) for one in along])),
        paired_figure(names.LOSS_ON_REPLIES, names.UNITS[names.LOSS_ON_REPLIES], *map(list, zip(*losses, strict=True)))
        if losses
        else named_figure(names.LOSS_ON_REPLIES, None),
    ]


def by_length(
    sets: Mapping[str, Sequence[Reply]], limit: int, decode: Callable[[Sequence[int]], str]
) -> list[dict[str, object]]:
    """Return refusal rates, by the rules, of the same replies cut at several lengths up to `limit` tokens."""
    lengths = [*(length for length in LENGTHS if length < limit), limit]
    return [
        {
            "tokens": length,
            **{
                name: Rate(sum(is_refusal(decode(reply.tokens[:length])) for reply in replies), len(replies)).to_json()
                for name, replies in sets.items()
            },
        }
        for length in lengths
    ]
