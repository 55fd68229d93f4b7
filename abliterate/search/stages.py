"""The search itself: from much pressure on refusals to little, each stage starting where the one before ended; then up to the limit.

A stage minimises `weight * refusals + divergence` (`losses.LOSSES`) by Adam over strengths and direction, on a few of the places where
refusals part from answers and a few harmless replies at each step. Then the model replies to the prompts that it ever
refused, and declines in new words become new places. The ends of the stages are the points of the front: they are
judged by replies and by KL on the select split.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from random import Random
from typing import Any

import torch
import transformers
from torch import Tensor

from abliterate.errors import InputError
from abliterate.models import generation
from abliterate.models.generation import REPLY_TOKENS, generate
from abliterate.models.gradient_memory import frozen, plan_memory
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.models.offload import streaming_of
from abliterate.parallel.processes import Processes
from abliterate.replies import coherence, languages, openings, refusals, rules_english, thinking
from abliterate.replies.coherence import is_incoherent
from abliterate.replies.refusals import is_refusal
from abliterate.search import closing, examples, kept, losses, pressure, variables
from abliterate.search.choice import USUAL_MAX_LOST, Pick
from abliterate.search.examples import OpenThoughts, OriginalReply, Tokens, Transcript, hard_examples
from abliterate.search.front import Front, Point
from abliterate.search.kept import Keeping, Kept
from abliterate.search.losses import EditLosses, States, TokenCount
from abliterate.search.pressure import Turn, limit_of, next_turn, stages_through
from abliterate.search.state import State
from abliterate.search.variables import Variables

STEPS = 12
"""Steps of a stage. Four stages of 8 are not enough: of two searches on Qwen2.5-0.5B-Instruct with 128 prompts a side, which differ
in the number of threads alone, one ended with no refusal of 44 at a KL of .017, the other with 5 at .010 and none at .030."""

EXAMPLES = 16
"""Places, and answers, in one step."""

ANSWERS = 160
"""Harmless prompts that stand for all: half of them those that the automatic choice moves most."""

ANSWER_TOKENS = 8
"""Tokens of the original's replies to these along which the divergence is followed."""

LAST_STEP = 0.2
"""Length of the last step of a stage beside its first."""

MOMENTA = (0.9, 0.95)
"""What Adam keeps of the gradients, and of their squares, from one step to the next: stages are short."""


Verdicts = Callable[[Sequence[str]], Sequence[bool]]
"""Tells which replies to the harmful prompts of the select split, in their order, show the behaviour that shall go."""


@dataclass(frozen=True)
class SearchData:
    """Token ids of prompts: those that the gradient sees, and those that judge what it found.

    `replies` are the original's to the harmful training prompts, with the verdict on each. Harmful are those whose refusals
    shall go: with `--mode calm`, the look-alikes. `kept` has the refusals that shall stay; `open_thoughts` are the harmful prompts
    that end in one.
    """

    harmful: Sequence[Tokens]
    harmless: Sequence[Tokens]
    select_harmful: Sequence[Tokens]
    select_harmless: Sequence[Tokens]
    replies: Sequence[tuple[Tokens, bool]]
    kept: Kept = field(default_factory=Kept)
    open_thoughts: OpenThoughts = field(default_factory=OpenThoughts)


@dataclass(frozen=True)
class SearchResult:
    """The front of a search, the point that was chosen, and the tokens that it took (those of this process).

    `judge` is who counted at the ends of stages, None for the rules.
    """

    front: Front
    token_count: TokenCount
    chosen: Point
    judge: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return what the manifest says of the search: every point, also those that others beat."""
        original = self.front.original
        return {
            "original": {"refusals": original.refusals, "prompts": original.prompts, **original.kept_to_json()},
            **({"max_lost": self.front.max_lost} if original.kept_prompts else {}),
            "chosen": self.front.points.index(self.chosen),
            "points": [point.to_json() for point in self.front.points],
            "tokens": dict(vars(self.token_count)),
            **({} if self.judge is None else {"judge": self.judge}),
        }


@dataclass(frozen=True)
class Search:
    """A model and what a search on it works with."""

    live: LiveModel
    edit_losses: EditLosses
    data: SearchData
    processes: Processes
    original: Sequence[States]
    keeping: Keeping = field(default_factory=Keeping)
    shows: Callable[[str], bool] = is_refusal
    verdicts: Verdicts | None = None

    def replies(self, prompts: Sequence[Tokens], edit: Variables | None, tokens: int, title: str) -> list[list[int]]:
        """Return the replies to the prompts, each process generating its own."""
        own = self.processes.own(prompts)
        found: list[list[int]] = []
        if own:
            with self.edit_losses.edited(edit):
                found = generate(
                    self.live.model,
                    self.live.tokenizer,
                    own,
                    tokens,
                    batch_size=self.live.batch_size,
                    decoding=self.live.decoding,
                    progress=self.live.progress,
                    title=title,
                )
        self.edit_losses.token_count.forward += sum(map(len, own)) + sum(map(len, found))
        return self.processes.gather(found)

    def divergence(self, prompts: Sequence[Tokens], edit: Variables, original: Sequence[States]) -> list[float]:
        """Return the KL of the first reply token on each prompt; `original` are those of this process's own."""
        own = [OriginalReply(prompt, ()) for prompt in self.processes.own(prompts)]
        return self.processes.gather(self.edit_losses.divergences(own, original, edit)[:, 0].tolist() if own else [])

    def cost(self, edit: Variables) -> float:
        """Return the mean KL of the first reply token on the harmless prompts of the select split."""
        values = self.divergence(self.data.select_harmless, edit, self.original)
        return sum(values) / len(values)

    def harmful_replies(self, prompts: Sequence[Tokens], edit: Variables | None, title: str) -> list[list[int]]:
        """Return the replies to harmful prompts: those that end in an open thought have room for it."""
        thoughts = self.data.open_thoughts
        found: dict[int, list[int]] = {}
        for thinks in (False, True):
            places = [place for place, prompt in enumerate(prompts) if (prompt in thoughts.tags) is thinks]
            if places:
                tokens = REPLY_TOKENS + (thoughts.room if thinks else 0)
                said = self.replies([prompts[place] for place in places], edit, tokens, title)
                found.update(zip(places, said, strict=True))
        return [found[place] for place in range(len(prompts))]

    def shown(self, prompts: Sequence[Tokens], replies: Sequence[list[int]]) -> list[bool]:
        """Return which replies show the behaviour. A thought that does not end is as little wanted, and counts as if."""
        texts = self.live.tokenizer.batch_decode(replies)
        thoughts = self.data.open_thoughts
        return [
            thoughts.unfinished(prompt, text) or self.shows(text) for prompt, text in zip(prompts, texts, strict=True)
        ]

    def listen(self, transcript: Transcript, prompts: Sequence[int], edit: Variables, title: str) -> None:
        """Let the edited model reply to some of the harmful training prompts, and remember what it said."""
        asked = [self.data.harmful[prompt] for prompt in prompts]
        replies = self.harmful_replies(asked, edit, title)
        for prompt, reply, shown in zip(prompts, replies, self.shown(asked, replies), strict=True):
            transcript.add(prompt, reply, shown)

    def judge(self, edit: Variables | None, refusal_weight: float | None) -> Point:
        """Return how an edit does on the select split."""
        replies = self.harmful_replies(self.data.select_harmful, edit, "confirming by replies")
        texts = self.live.tokenizer.batch_decode(replies, skip_special_tokens=True)
        if self.verdicts is None:
            shown = sum(self.shown(self.data.select_harmful, replies))
        else:
            shown = sum(self.verdicts(texts))
        staying = self.data.kept.select
        stayed = self.replies(staying, edit, REPLY_TOKENS, "refusals that shall stay") if staying else []
        return Point(
            edit.copy() if edit else Variables({}, torch.zeros(0)),
            refusal_weight,
            shown,
            sum(map(is_incoherent, texts)),
            len(texts),
            self.cost(edit) if edit else 0.0,
            sum(map(is_refusal, self.live.tokenizer.batch_decode(stayed))),
            len(staying),
        )

    def begin(self, start: Variables) -> State:
        """Return the state before the first stage: replies of the original and of the automatic choice, hard examples."""
        transcript = Transcript(self.data.harmful, thought_room=self.data.open_thoughts.room)
        for prompt, (reply, refused) in enumerate(self.data.replies):
            transcript.add(prompt, reply, refused)
        state = State(start, transcript, token_count=self.edit_losses.token_count)
        self.listen(transcript, range(len(self.data.harmful)), start, "replies of the automatic choice")
        own = [OriginalReply(prompt, ()) for prompt in self.processes.own(self.data.harmless)]
        moved = self.divergence(self.data.harmless, start, self.edit_losses.states(own))
        chosen = [self.data.harmless[place] for place in hard_examples(moved, ANSWERS)]
        replies = self.replies(chosen, None, ANSWER_TOKENS, "replies to stay close to")
        state.answers = [OriginalReply(prompt, tuple(reply)) for prompt, reply in zip(chosen, replies, strict=True)]
        state.points = [self.judge(None, None), self.judge(start, None)]
        return state

    def following(
        self, state: State, seed: int, original: Sequence[States], limit: float | None, max_lost: float
    ) -> Iterator[Turn]:
        """Run the stages that follow, and yield each when it is through and what it leaves has been heard."""
        turn = next_turn(state.points, limit, max_lost)
        while turn is not None:
            self.stage(state, turn, seed, original)
            done, turn = turn, next_turn(state.points, limit, max_lost)
            if turn is not None:  # what is heard becomes places of the next stage
                self.listen(state.transcript, state.transcript.at_risk, state.edit, "listening for new refusals")
            yield done

    def stage(self, state: State, turn: Turn, seed: int, original: Sequence[States]) -> None:
        """Run one stage, and add its end to the points."""
        edit = (turn.begins.edit if turn.begins else state.edit).copy()
        places = state.transcript.places()
        sizes = len(places), len(state.answers), len(self.data.kept.refusals)
        draws = [drawn(Random(f"{seed} {turn.number} {side}"), size) for side, size in enumerate(sizes)]
        for one in edit.tensors():
            one.requires_grad_()
        optimizer = torch.optim.Adam(edit.groups(), betas=MOMENTA)
        schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, LAST_STEP, STEPS)
        with self.live.progress.step(turn.title, STEPS, "steps") as advance:
            for _ in range(STEPS):
                asked, stayed = next(draws[0]), next(draws[1])
                optimizer.zero_grad(set_to_none=False)
                own = self.processes.own(stayed)
                self.edit_losses.backward(
                    [places[place] for place in self.processes.own(asked)],
                    [state.answers[place] for place in own],
                    [original[place] for place in own],
                    edit,
                    (turn.weight / max(1, len(asked)), 1 / len(stayed)),
                )
                self.keeping.backward(self.edit_losses, draws[2], edit, self.processes)
                self.processes.sum(gradients(edit))
                optimizer.step()
                schedule.step()
                edit.bound()
                advance(1)
        state.edit = edit.copy()
        state.points.append(self.judge(state.edit, turn.weight))

    def close_in(self, state: State, limit: float, max_lost: float) -> Iterator[Point]:
        """Add edits just within the limit, between those of the stages, while any there is refused; yield each."""
        through = stages_through(state.points, limit, max_lost)
        front = Front(tuple(state.points[1:through]), state.points[0], max_lost)
        for gap in closing.gaps(front, limit)[len(state.points) - through : closing.CLOSING]:
            found = replace(front, points=tuple(state.points[1:])).keeping()
            if any(point.kl <= limit and not point.refusals for point in found):
                return
            with self.live.progress.step(f"closing in on KL {limit:g}", closing.HALVINGS, "edits") as advance:
                share = closing.nearest(gap, limit, self.cost, advance)
            state.points.append(self.judge(gap.edit(share), gap.pressure(share)))
            yield state.points[-1]


def search(
    live: LiveModel,
    start: Variables,
    data: SearchData,
    *,
    seed: int = 0,
    target_refusals: float | None = None,
    max_kl: float | None = None,
    max_lost: float | None = None,
    pick: Pick = "refusals",
    state_file: Path | None = None,
    keeping: Callable[[], AbstractContextManager[None]] = nullcontext,
    processes: Processes | None = None,
    shows: Callable[[str], bool] = is_refusal,
    verdicts: Verdicts | None = None,
) -> SearchResult:
    """Return the front of edits found from `start`, what it took, and the point that `Front.choose` takes.

    `shows` tells whether a reply shows the behaviour that shall go; `verdicts` counts in its place at the ends of stages.

    With `state_file`, each finished stage is kept there, inside the context `keeping`, which has the say where it cannot
    be; a search that was interrupted goes on. Under a launcher,
    all processes call this with the same arguments, and all get the same front. Raises InputError for a model that
    streams from the disk, and where no point will do.
    """
    model = live.model
    if streaming_of(model) is not None:
        raise InputError(
            "--optimize follows gradients through the whole model, which does not fit into memory; "
            "use a machine with more, or leave it away"
        )
    group = processes or Processes.launched()
    with frozen(model):
        state = State.load(state_file, data.harmful) if state_file else None
        if state:
            state.transcript.thought_room = data.open_thoughts.room
        token_count = state.token_count if state else TokenCount()
        counted = replace(token_count) if state else None
        plan = plan_memory(model)
        edit_losses = EditLosses(model, live.architecture, Head(model), plan, token_count, live.batch_size)
        selected = edit_losses.states([OriginalReply(prompt, ()) for prompt in group.own(data.select_harmless)])
        held = Keeping.of(data.kept, edit_losses)
        one = Search(live, edit_losses, data, group, selected, held, shows, verdicts)
        if state is None:
            state = one.begin(start)
        original = edit_losses.states(state.answers)
        if counted:  # what is made again was counted when it was first made
            vars(token_count).update(vars(counted))
        lost, limit = USUAL_MAX_LOST if max_lost is None else max_lost, limit_of(target_refusals, max_kl, pick)
        closed_in = one.close_in(state, limit, lost) if limit else ()
        for _ in chain(one.following(state, seed, original, limit, lost), closed_in):
            if state_file and group.first:
                with keeping():
                    state.save(state_file)
    front = Front(tuple(state.points[1:]), state.points[0], lost)
    return SearchResult(front, state.token_count, front.choose(target_refusals, max_kl, pick))


SEARCHED = (
    sys.modules[__name__], closing, coherence, examples, generation, kept, losses, languages, openings, pressure, refusals, rules_english, thinking, variables,
)  # fmt: skip
"""The files that a search goes through."""


def search_settings() -> dict[str, Any]:
    """Return what decides what a search finds besides model, prompts and seed: constants and versions.

    The constants are all of those of the files that a search goes through, so that none is forgotten here.
    """
    constants = {
        f"{file.__name__}.{name}": value.pattern if isinstance(value, re.Pattern) else value
        for file in SEARCHED
        for name, value in sorted(vars(file).items())
        if name.isupper() and isinstance(value, int | float | str | tuple | re.Pattern)
    }
    terms = {f"{losses.__name__}.{name}": f"{loss.side} {loss.weight}" for name, loss in losses.LOSSES.items()}
    versions = {"torch": str(torch.__version__), "transformers": str(transformers.__version__)}
    return {**constants, **terms, **versions, "abliterate": version("abliterate")}


def drawn(random: Random, count: int) -> Iterator[list[int]]:
    """Yield a few of `count` examples at a time, all of them once before any comes again; all where they are few."""
    left: list[int] = []
    while True:
        if len(left) < min(EXAMPLES, count):
            left = random.sample(range(count), count)
        yield left[:EXAMPLES]
        left = left[EXAMPLES:]


def gradients(edit: Variables) -> list[Tensor]:
    """Return the gradients of everything that is turned; zeros where this process had nothing to look at."""
    for one in edit.tensors():
        if one.grad is None:
            one.grad = torch.zeros_like(one)
    return [one.grad for one in edit.tensors() if one.grad is not None]
