"""abliterate finds the refusal direction of an open-weight chat model and edits the weights along it.

from abliterate import ablated, capture, difference_in_means, load_prompts, orthogonalize

directions = difference_in_means(capture(model, tokenizer, harmful), capture(model, tokenizer, harmless))
with ablated(model, directions[15]):          # hooks: nothing is changed for good
    ...
orthogonalize(model, directions[15])          # in place, ready for fine-tuning
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from abliterate.activations.capture import Activations, capture
    from abliterate.architectures.architecture import Architecture, find_architecture
    from abliterate.directions.directions import Directions
    from abliterate.directions.methods import difference_in_means
    from abliterate.edits.in_place import orthogonalize
    from abliterate.errors import AbliterateError
    from abliterate.interventions import (
        Condition,
        ablated,
        ablated_rows,
        added,
        added_rows,
        affine,
        mean_component,
        rows_where,
    )
    from abliterate.interventions.recipe import Recipe
    from abliterate.pipeline.options import Options
    from abliterate.pipeline.run import Result, run
    from abliterate.prompts.chat_format import ChatFormat
    from abliterate.prompts.prompt_set import PromptSet, load_prompts
    from abliterate.replies.refusals import is_refusal

__all__ = [
    "AbliterateError",
    "Activations",
    "Architecture",
    "ChatFormat",
    "Condition",
    "Directions",
    "Options",
    "PromptSet",
    "Recipe",
    "Result",
    "ablated",
    "ablated_rows",
    "added",
    "added_rows",
    "affine",
    "capture",
    "difference_in_means",
    "find_architecture",
    "is_refusal",
    "load_prompts",
    "mean_component",
    "orthogonalize",
    "rows_where",
    "run",
]

_ROOMS = {
    "activations": ("Activations", "capture"),
    "architecture": ("Architecture", "find_architecture"),
    "directions": ("Directions", "difference_in_means"),
    "edit": ("orthogonalize",),
    "errors": ("AbliterateError",),
    "interventions": (
        "Condition",
        "ablated",
        "ablated_rows",
        "added",
        "added_rows",
        "affine",
        "mean_component",
        "rows_where",
    ),
    "pipeline": ("Result", "run"),
    "prompts": ("PromptSet", "load_prompts"),
    "recipe": ("Recipe",),
    "refusals": ("is_refusal",),
    "session": ("Options",),
    "template": ("ChatFormat",),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: torch takes seconds, which --help and completion need not wait for."""
    for room, names in _ROOMS.items():
        if name in names:
            return getattr(import_module(f"abliterate.{room}"), name)
    raise AttributeError(f"module 'abliterate' has no attribute {name!r}")
