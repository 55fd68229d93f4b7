"""What a search has done so far, as one file: an interrupted search goes on after its last whole stage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from abliterate.architectures.sites import SITES
from abliterate.search.examples import OriginalReply, Transcript
from abliterate.search.front import Point
from abliterate.search.losses import TokenCount
from abliterate.search.variables import Variables
from abliterate.storage.atomic import written_whole
from abliterate.storage.foreign_files import parse_json
from abliterate.storage.own_files import is_own_file, own_folder

STATE_RECORD = "search"


@dataclass
class State:
    """Everything that the next stage begins with."""

    edit: Variables
    transcript: Transcript
    answers: list[OriginalReply] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    token_count: TokenCount = field(default_factory=TokenCount)

    def save(self, path: Path) -> None:
        """Write the state whole or not at all. Raises OSError where it cannot be written."""
        edits = [self.edit, *(point.edit for point in self.points)]
        tensors = {f"{number}.{name}": one for number, edit in enumerate(edits) for name, one in named(edit).items()}
        record = {
            "refused": self.transcript.refused,
            "answered": self.transcript.answered,
            "answers": [(answer.prompt, answer.reply) for answer in self.answers],
            "points": [figures(point) for point in self.points],
            "spent": vars(self.token_count),
        }
        own_folder(path.parent)
        try:
            with written_whole(path) as partial:
                save_file(tensors, partial, metadata={STATE_RECORD: json.dumps(record)})
        except SafetensorError as error:  # as safetensors calls a full disk
            raise OSError(str(error)) from error

    @classmethod
    def load(cls, path: Path, prompts: Sequence[tuple[int, ...]]) -> State | None:
        """Return the state of a search on these prompts, None when there is none; a damaged file is removed."""
        if not is_own_file(path):
            return None
        try:
            with safe_open(path, framework="pt") as file:
                record = parse_json((file.metadata() or {})[STATE_RECORD])
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
            return cls.of(record, tensors, prompts)
        except (SafetensorError, ValueError, KeyError, TypeError, AttributeError):  # damaged, or of another shape
            with suppress(OSError):  # of a folder that is read-only: it stays, and counts as none
                path.unlink()
            return None
        except OSError:
            return None

    @classmethod
    def of(cls, record: Any, tensors: dict[str, Tensor], prompts: Sequence[tuple[int, ...]]) -> State:
        """Return the state that `save` made these of. Raises ValueError, KeyError, TypeError or AttributeError for others."""
        refused, answered = (
            {int(prompt): [tuple(reply) for reply in replies] for prompt, replies in record[side].items()}
            for side in ("refused", "answered")
        )
        answers = [OriginalReply(tuple(prompt), tuple(reply)) for prompt, reply in record["answers"]]
        points = [
            Point(edit=variables_of(tensors, number), **point) for number, point in enumerate(record["points"], 1)
        ]
        transcript = Transcript(prompts, refused, answered)
        return cls(variables_of(tensors, 0), transcript, answers, points, TokenCount(**record["spent"]))


def named(edit: Variables) -> dict[str, Tensor]:
    """Return the tensors of an edit by name."""
    return {**{f"strengths.{site}": one for site, one in edit.strengths.items()}, "direction": edit.direction}


def variables_of(tensors: dict[str, Tensor], number: int) -> Variables:
    """Return the edit that was saved under a number. Raises KeyError or ValueError for tensors that are none of an edit's.

    Sites are in their own order, which the file does not keep: the recipe of a search that went on has the same bytes.
    """
    own = {name.partition(".")[2]: one for name, one in tensors.items() if name.partition(".")[0] == str(number)}
    direction = own.pop("direction")
    strengths = {site: own.pop(f"strengths.{site}") for site in SITES if f"strengths.{site}" in own}
    if own:
        raise ValueError(f"{', '.join(own)}: no part of an edit")
    return Variables(strengths, direction)


def figures(point: Point) -> dict[str, Any]:
    """Return all of a point but its edit."""
    return {name: value for name, value in vars(point).items() if name != "edit"}
