"""Models that torch.compile has traced: inside an intervention they run eagerly.

Compiled code does not ask whether hooks came or went since it was traced (torch's `skip_nnmodule_hook_guards`): an
intervention would be skipped without a word, and one that was there at the tracing would stay for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from threading import RLock

import torch


class _Stance:
    """torch's stance on compiled code, taken by the first context and given back by the last.

    The stance belongs to the whole process, and so does this count: contexts need not end in the order in which they
    began, as those of generators that nobody reads to the end.
    """

    def __init__(self) -> None:
        self.lock = RLock()  # not a plain one: the end of an abandoned generator can come at any line
        self.count = 0
        self.taken = ExitStack()

    def take(self) -> None:
        with self.lock:
            if not self.count:
                self.taken.enter_context(torch.compiler.set_stance("force_eager"))
            self.count += 1

    def give_back(self) -> None:
        with self.lock:
            self.count -= 1
            if not self.count:
                self.taken.close()


_STANCE = _Stance()


@contextmanager
def eager() -> Iterator[None]:
    """Inside the context, whatever torch.compile has compiled runs eagerly, so that hooks take part; nothing is traced.

    That is so in all of the process, since torch knows no other way; code compiled before is used again afterwards.
    Raises RuntimeError (torch's own) inside a compiled function: enter the context outside of it.
    """
    _STANCE.take()
    try:
        yield
    finally:
        _STANCE.give_back()
