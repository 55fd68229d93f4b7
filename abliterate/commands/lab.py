"""`abliterate lab`: both sides opened, and a server on this machine that a browser talks to them through."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from abliterate.architectures.architecture import find_architecture
from abliterate.chat.begin import begin
from abliterate.chat.options import ChatOptions
from abliterate.chat.sides import ChatSide, records_of
from abliterate.extras import require
from abliterate.lab.choices import choices_of
from abliterate.lab.server import bound, hosts_of, serving
from abliterate.lab.session import Session
from abliterate.pipeline.condition_options import SaidTemplate
from abliterate.pipeline.options import AskOptions
from abliterate.progress import SILENT, Progress

TOKEN_BYTES = 32


@dataclass(frozen=True)
class OpenedLab:
    """A lab that answers: at which address, token and all, and what was loaded for it."""

    address: str
    note: str
    session: Session
    ended: threading.Event

    def wait(self) -> None:
        """Wait until the server ends, which it does with the context, or by a failure."""
        while not self.ended.wait(0.5):  # in steps: Windows hears no Ctrl-C in a wait without an end
            pass


@contextmanager
def lab(
    options: AskOptions,
    said: SaidTemplate,
    chat_options: ChatOptions,
    against: str | None = None,
    port: int = 0,
    progress: Progress = SILENT,
) -> Iterator[OpenedLab]:
    """Open the edit of `options.model`, and `against` beside it where one is given, and serve them while the context lasts.

    Raises InputError as `begin`, where the model holds no edit, for a port that is taken, and without the extra `lab`.
    """
    require("lab", "the lab")
    from abliterate.lab.app import lab_app

    with bound(port) as held:
        folder = records_of(options, True)
        choices = choices_of(folder, options.model)
        sides, conversations = begin(options, said, chat_options, against, progress)
        edited: ChatSide = sides.sides[-1]
        architecture = edited.edit.architecture if edited.edit else find_architecture(edited.model, True)
        session = Session(conversations, choices, architecture)
        token, hosts = secrets.token_urlsafe(TOKEN_BYTES), hosts_of(held)
        with serving(lab_app(session, folder, sides.note, hosts, token), held) as ended:
            try:
                yield OpenedLab(f"http://{hosts[0]}/?token={token}", sides.note, session, ended)
            finally:
                session.stop()  # the server waits for what is under way
