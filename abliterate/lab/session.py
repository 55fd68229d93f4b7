"""What is live in the lab: the conversations of both sides, the edit as it is set, one turn at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from abliterate.architectures.architecture import Architecture
from abliterate.chat.conversation import ChatReply, Conversation, encode, take_turn
from abliterate.chat.panes import verdict
from abliterate.chat.text import harmless
from abliterate.errors import AbliterateError, InputError
from abliterate.lab.choices import Choice, chosen
from abliterate.lab.components import components
from abliterate.lab.pieces import pieces
from abliterate.models.batches import shared_prefix

FRAME_SECONDS = 1 / 15
"""The least time between two looks at a growing reply."""

STOP_SECONDS = 30.0
"""How long a new conversation waits for the old one's last token, and what is measured of it."""

DIGITS = 4
"""Of a component: as many as can be seen in a colour, and one more."""


Steps = Generator[Mapping[str, Any], None, None]
"""What becomes of a turn, step by step."""


class BusyError(AbliterateError):
    """Another turn is under way."""


@dataclass(frozen=True)
class Wish:
    """A turn that was asked for: a new prompt, or, without one, the last again; at a strength along a direction."""

    prompt: str | None
    direction: str
    strength: float = 1.0

    @classmethod
    def from_json(cls, data: object) -> Wish:
        """Read what the page sent. Raises InputError for anything else."""
        if not isinstance(data, dict) or data.keys() != {"prompt", "direction", "strength"}:
            raise InputError("a turn is an object with prompt, direction and strength")
        prompt, direction, strength = data["prompt"], data["direction"], data["strength"]
        if not isinstance(prompt, str | None) or not isinstance(direction, str):
            raise InputError("prompt and direction of a turn are texts")
        if prompt is not None and not prompt.strip():
            raise InputError("there is no prompt; type one")
        if isinstance(strength, bool) or not isinstance(strength, int | float):
            raise InputError("the strength of a turn is a number")
        return cls(prompt, direction, float(strength))


@dataclass(frozen=True)
class LastTurn:
    """What is measured of a side's last turn: the tokens of the whole, and where prompt and reply begin in them."""

    ids: tuple[int, ...]
    prompt_from: int
    reply_from: int


class Session:
    """The conversations. They change, as a Conversation does; whoever finds another turn under way is told so."""

    def __init__(
        self, conversations: Sequence[Conversation], choices: Sequence[Choice], architecture: Architecture
    ) -> None:
        self.conversations = tuple(conversations)
        self.choices = tuple(choices)
        self.architecture = architecture
        self.edited = self.conversations[-1]  # behind the original, or alone
        self.last: dict[str, LastTurn] = {}
        self._set = (self.choices[0].name, 1.0)
        self._busy = threading.Lock()
        self._stopped = threading.Event()

    @property
    def adjustable(self) -> bool:
        """Whether strength and direction of the edit can be set: where it is hooks."""
        return self.edited.side.edit is not None

    def stop(self) -> None:
        """Let replies end as they are."""
        self._stopped.set()

    def reset(self) -> None:
        """Stop a turn that is under way, and begin a new conversation on every side. Raises BusyError where none stops."""
        self.stop()
        self._begin(STOP_SECONDS)
        try:
            for conversation in self.conversations:
                conversation.reset(conversation.chat.system)
            self.last.clear()
        finally:
            self._busy.release()

    def turn(self, wish: Wish) -> Steps:
        """Yield the replies as they grow, `{"replies": {role: ...}}`, and at the end what is along the direction in each.

        A new prompt is put to every side; without one, the edited side takes its last prompt again where its edit can be
        set, and where it cannot, everything is only measured. Raises BusyError, and InputError as `take_turn`.
        """
        self._begin()
        try:
            choice = chosen(self.choices, wish.direction)
            self._set_edit(choice, wish.strength)
            yield from self._replies(wish)
            yield {"measured": {one.side.role: self._measured(one, choice) for one in self.conversations}}
        finally:
            self._busy.release()

    def _begin(self, seconds: float = 0.0) -> None:
        if not self._busy.acquire(timeout=seconds):
            raise BusyError("the model is replying; stop it first")
        self._stopped.clear()

    def _set_edit(self, choice: Choice, strength: float) -> None:
        edit = self.edited.side.edit
        if edit is not None and self._set != (choice.name, strength):
            self.edited.turn_to(self.edited.side.under(choice.on(edit, strength)))
            self._set = (choice.name, strength)

    def _replies(self, wish: Wish) -> Steps:
        again = wish.prompt is None
        prompt = self.edited.last_prompt if wish.prompt is None else wish.prompt.strip()
        if prompt is None or (again and not self.adjustable):
            return
        asked = self.conversations
        if again:
            asked = (self.edited,)
            self.edited.take_back()
            self.edited.turns -= 1  # the same draws: what differs is the edit's
        shown = 0.0
        replies: tuple[ChatReply, ...] = ()
        for replies in take_turn(asked, prompt, self._stopped.is_set):
            if all(reply.ended for reply in replies) or time.monotonic() - shown > FRAME_SECONDS:
                shown = time.monotonic()
                yield {"replies": {one.side.role: told(reply) for one, reply in zip(asked, replies, strict=True)}}
        for one, reply in zip(asked, replies, strict=True):
            self._keep(one, reply, again)

    def _keep(self, one: Conversation, reply: ChatReply, again: bool) -> None:
        """Remember the tokens of a turn; what is shown of them begins where they differ from those of the turn before."""
        ids = encode(one.chat, one.messages[:-1])
        known = self.last.get(one.side.role)
        begun = 0
        if known is not None:
            begun = known.prompt_from if again else shared_prefix([known.ids, ids], 0)
        self.last[one.side.role] = LastTurn((*ids, *reply.tokens), begun, len(ids))

    def _measured(self, one: Conversation, choice: Choice) -> Mapping[str, Any] | None:
        turn = self.last.get(one.side.role)
        if turn is None:
            return None
        found = components(one.side, self.architecture, turn.ids, choice.basis)[:, turn.prompt_from :]
        return {
            "pieces": [harmless(piece) for piece in pieces(one.chat.tokenizer, turn.ids)[turn.prompt_from :]],
            "reply_from": turn.reply_from - turn.prompt_from,
            "components": [[round(value, DIGITS) for value in layer] for layer in found.tolist()],
        }


def told(reply: ChatReply) -> Mapping[str, Any]:
    """Return one reply as the page shows it."""
    return {"text": harmless(reply.text).strip(), "ended": bool(reply.ended), "verdict": verdict(reply)}


def edit_of(session: Session) -> Mapping[str, Any]:
    """Return what the pickers offer: directions with the layer that each was found at, and how deep the model is."""
    return {
        "directions": [{"name": one.name, "layer": one.layer} for one in session.choices],
        "depth": session.architecture.depth,
        "adjustable": session.adjustable,
        "roles": [one.side.role for one in session.conversations],
    }
