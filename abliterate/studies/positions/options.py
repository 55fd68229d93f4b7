"""What a study of positions is asked besides what every study is. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from abliterate.prompts.sources import BUILTIN
from abliterate.records.option import Declaration, Panel, number_or, option

ALPHAS = (-2.0, -1.4, -1.0, -0.7, -0.35, 0.0, 0.35, 0.7, 1.0, 1.4, 2.0)
"""Times a vector's own length."""


def read_alphas(text: str) -> tuple[float, ...]:
    """Read numbers by commas: 0, and both signs of at least one."""
    try:
        found = tuple(sorted({float(word) for word in text.split(",")}))
    except ValueError:
        found = ()
    if 0 not in found or not any(alpha > 0 and -alpha in found for alpha in found) or max(map(abs, found)) > 1e3:
        raise ValueError("give numbers by commas, 0 and both signs of at least one among them, such as -1,0,1")
    return found


@dataclass(frozen=True, kw_only=True)
class PositionsOptions:
    """Layers, alphas, and what is held against the vectors."""

    PANEL: ClassVar[Panel] = "study"

    layer: str | int = option(
        "auto",
        Declaration(
            "Where vectors are added: auto, the layer of the greatest effect on the select part; all, tried at every layer; "
            "or the number of one.",
            read=number_or("auto", "all"),
            words=("auto", "all"),
        ),
    )
    alphas: tuple[float, ...] = option(
        ALPHAS,
        Declaration(
            "How many times each vector is added, by commas, as --alphas=-1,0,1.",
            read=read_alphas,
            write=lambda alphas: ",".join(map(str, alphas)),
        ),
    )
    reply_tokens: int = option(64, Declaration("Length of the replies.", read=int, kind=int, least=1))
    look_alikes: str | None = option(
        "builtin:look-alikes",
        Declaration(
            "Harmless prompts that sound harmful, as --harmful of a run: a third side; none for none.",
            words=tuple(f"builtin:{name}" for name in BUILTIN),
            none="none",
        ),
    )
    against_direction: Path | None = option(
        None,
        Declaration(
            "A run's directions.safetensors: its direction at each vector's layer is one more control.",
            read=Path,
            kind=Path,
        ),
    )
