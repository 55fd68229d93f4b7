"""`search.safetensors`: the whole front of a search beside its result, so that another point can be taken without searching again."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from abliterate.errors import InputError
from abliterate.interventions.recipe import Recipe
from abliterate.search.choice import USUAL_MAX_LOST
from abliterate.search.front import Front, Point
from abliterate.search.losses import TokenCount
from abliterate.search.stages import SearchResult
from abliterate.search.state import figures, named, variables_of
from abliterate.storage.foreign_files import parse_json, require_file

FOUND_RECORD = "search"


def save_found(path: Path, found: SearchResult) -> None:
    """Write every point of a search: its edit, and its figures on the select split. No prompt, no reply."""
    points = (found.front.original, *found.front.points)
    tensors = {
        f"{number}.{name}": one for number, point in enumerate(points) for name, one in named(point.edit).items()
    }
    record = {
        "points": [figures(point) for point in points],
        "chosen": found.front.points.index(found.chosen),
        "tokens": vars(found.token_count),
        "judge": found.judge,
        "max_lost": found.front.max_lost,
    }
    save_file(tensors, path, metadata={FOUND_RECORD: json.dumps(record)})


def load_found(path: Path) -> SearchResult:
    """Read what `save_found` wrote. Raises InputError where it is missing or damaged."""
    if not path.is_file():
        raise InputError(f"{path.parent}: has no {path.name}; it is of a run without a search, or of an older version")
    try:
        require_file(path)
        with safe_open(path, framework="pt") as file:
            record = parse_json((file.metadata() or {})[FOUND_RECORD])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
        original, *points = (
            Point(edit=variables_of(tensors, number), **point) for number, point in enumerate(record["points"])
        )
        for point in points:
            Recipe.from_json(point.edit.recipe().to_json(), str(path))  # strengths are somebody else's word
        front = Front(tuple(points), original, float(record.get("max_lost", USUAL_MAX_LOST)))
        chosen = front.points[int(record["chosen"])]
        return SearchResult(front, TokenCount(**record["tokens"]), chosen, record.get("judge"))
    except InputError:
        raise
    except (OSError, SafetensorError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise InputError(f"{path}: is damaged ({type(error).__name__}); take it from the run again") from error
