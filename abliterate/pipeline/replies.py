"""The replies to the training prompts: how refusals open, and which prompts make the direction."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.errors import InputError, NoRefusalsError
from abliterate.models.decoding import Decoding
from abliterate.models.generation import REPLY_TOKENS, generate_all
from abliterate.parallel.processes import Processes
from abliterate.pipeline.load import Loaded
from abliterate.progress import Progress
from abliterate.prompts.splits import HARMLESS, LOOK_ALIKES, PromptSplits
from abliterate.replies.behaviours import BEHAVIOURS, REFUSAL
from abliterate.replies.never import never_refuses
from abliterate.replies.openings import Opening, find_openings

OPENINGS_COVERAGE = 0.75
"""Share of the refusals that the openings must cover. The rest are lectures that begin with the subject of the prompt:
each would be a context of its own, on which every candidate had to be run."""

ENOUGH_REFUSALS = 16
"""From so many refused prompts on, the direction rests on those alone (and on the answered harmless ones), as the
published procedure filters its prompts; below it rests on all of them, and the result says so."""


@dataclass(frozen=True)
class TrainingReplies:
    """How the model opens its refusals, which training prompts (by place) make the direction, does it hardly refuse.

    `replies` are those to the harmful training prompts, with the verdict on each.
    """

    openings: tuple[Opening, ...]
    harmful: Sequence[int]
    harmless: Sequence[int]
    few_refusals: bool
    notes: tuple[str, ...]
    replies: tuple[tuple[tuple[int, ...], bool], ...]

    def record(self, splits: PromptSplits) -> dict[str, Any]:
        """Return the record of the prompts with how many of the training prompts were used."""
        used = {splits.removed: {"used": len(self.harmful)}, HARMLESS: {"used": len(self.harmless)}}
        return {side: {**one, **used.get(side, {})} for side, one in splits.record().items()}


def training_replies(
    loaded: Loaded,
    lists: Mapping[str, Sequence[Sequence[int]]],
    step: str,
    progress: Progress,
    title: str,
    part: str = "training",
) -> list[list[list[int]]]:
    """Return the model's replies to lists of prompts, of what a run sorts by; `step` is what they are kept under.

    `part` says for people which prompts of the lists they are.
    """
    return generate_all(
        loaded.model,
        loaded.tokenizer,
        [*lists.values()],
        REPLY_TOKENS,
        decoding=Decoding(loaded.options.generation, loaded.options.seed),
        batch_size=loaded.options.batch_size,
        processes=Processes.launched(),
        kept=loaded.unfinished.under(step),
        progress=progress,
        title=title,
        kinds=[f"{name} {part}" for name in lists],
    )


def collect_training_replies(loaded: Loaded, progress: Progress) -> TrainingReplies:
    """Let the model reply to the training prompts, and sort the replies by the ruler that also measures.

    Raises NoRefusalsError when it refuses none, with the likeliest cause.
    """
    training = [loaded.splits.chat.encode(prompts.prompts) for prompts in loaded.splits.training()]
    sides = dict(zip((loaded.splits.removed, HARMLESS), training, strict=True))
    replies = training_replies(loaded, sides, "listen", progress, "how refusals and answers open")
    texts = [loaded.tokenizer.batch_decode(side) for side in replies]
    behaviour = BEHAVIOURS[loaded.options.target]
    refused = [[behaviour.shows(text) for text in side] for side in texts]
    if loaded.splits.removed == LOOK_ALIKES and not any(refused[0]):
        raise InputError(
            f"the model refuses none of the {len(refused[0])} look-alikes of the train part: there is nothing to calm; give "
            "others with --look-alikes"
        )
    if loaded.options.target != REFUSAL and not (any(refused[0]) and not all(refused[1])):
        raise InputError(
            f"{sum(refused[0])} of {len(refused[0])} replies to --harmful and {sum(refused[1])} of {len(refused[1])} to --harmless show "
            f"{loaded.options.target}: there is nothing that parts them; give prompts that draw it, and prompts that do not"
        )
    if not any(map(any, refused)):
        seen = loaded.tokenizer.batch_decode(training[0])
        raise NoRefusalsError(never_refuses(texts[0], seen, sum(map(len, texts))))
    flat = [
        (reply, verdict)
        for side, verdicts in zip(replies, refused, strict=True)
        for reply, verdict in zip(side, verdicts, strict=True)
    ]
    openings = find_openings(
        [reply for reply, verdict in flat if verdict],
        [reply for reply, verdict in flat if not verdict],
        coverage=OPENINGS_COVERAGE,
    )
    harmful = [place for place, verdict in enumerate(refused[0]) if verdict]
    harmless = [place for place, verdict in enumerate(refused[1]) if not verdict]
    said = tuple(zip(map(tuple, replies[0]), refused[0], strict=True))
    if len(harmful) < ENOUGH_REFUSALS or len(harmless) < ENOUGH_REFUSALS:
        hardly = "refuses" if loaded.options.target == REFUSAL else f"shows {loaded.options.target}"
        note = (
            f"the model hardly {hardly}: {len(harmful)} of {len(refused[0])} {loaded.splits.removed} training prompts; "
            "the direction rests on all of them, refused or not, induce was not asked for: read the figures with care"
        )
        return TrainingReplies(openings, range(len(refused[0])), range(len(refused[1])), True, (note,), said)
    return TrainingReplies(openings, harmful, harmless, False, (), said)
