"""Several processes that work on one run, as `accelerate launch` starts them; one is the usual case."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor

Item = TypeVar("Item")


@dataclass(frozen=True)
class Processes:
    """This process among all of them: each takes every `count`-th item, and they put their results together."""

    rank: int = 0
    count: int = 1

    @classmethod
    def launched(cls) -> Processes:
        """Return what the launcher's environment says; one process without a launcher."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))

    @property
    def first(self) -> bool:
        """Whether this is the one that writes."""
        return self.rank == 0

    def own(self, items: Sequence[Item]) -> list[Item]:
        """Return the items that this process takes."""
        return list(items[self.rank :: self.count])

    def gather(self, own: Sequence[Item]) -> list[Item]:
        """Return the results of all items in their order, from each process's own."""
        if self.count == 1:
            return list(own)
        joined()
        parts: list[list[Item]] = gather_object([list(own)])
        total = sum(map(len, parts))
        return [parts[place % self.count][place // self.count] for place in range(total)]

    def each(self, value: Item) -> list[Item]:
        """Return what every process has given, in the order of their ranks."""
        return self.gather([value])

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Put into each tensor the sum over all processes, in place: in float64, so that their number does not show."""
        if self.count > 1:
            device = joined().device
            for tensor in tensors:
                whole = tensor.to(device, torch.float64)
                torch.distributed.all_reduce(whole)
                tensor.copy_(whole)


def joined() -> PartialState:
    """Return accelerate's state, which brings the processes together when it is first asked for: not before the search,
    because transformers lets only one of those that are together write the clones that each proves its writers on.
    """
    # Without being told so, accelerate takes each of several processes on a CPU for the only one.
    return PartialState(cpu=not torch.accelerator.is_available())
