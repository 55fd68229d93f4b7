"""What is exported, declared once. Imports nothing that takes time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from abliterate.architectures.sites import Site
from abliterate.exports.forms import EXPORT_FORMS, described
from abliterate.pipeline.options import LEAVE_OUT
from abliterate.records.option import KEY, Declaration, Panel, one_of, option, split

if TYPE_CHECKING:
    pass


def read_layers(text: str) -> tuple[int, ...] | None:
    """Read layers by commas, None for none."""
    if not all(word.isdecimal() for word in split(text)):
        raise ValueError("give whole numbers by commas")
    return tuple(map(int, split(text))) or None


@dataclass(frozen=True)
class ExportOptions:
    """What is exported: from where (a finished run's folder, or its recipe.json), as what, and what it leaves out.

    `base` is the GGUF file that an adapter for llama.cpp goes with, `layers` those of a control vector.
    """

    PANEL: ClassVar[Panel] = "output"

    edit: Path = field(
        metadata={
            KEY: Declaration(
                "A folder that abliterate wrote, or the recipe.json of one.",
                read=Path,
                kind=Path,
                argument=True,
                metavar="DIR_OR_RECIPE",
            )
        }
    )
    kind: str = field(
        metadata={
            KEY: Declaration(
                f"{described(tuple(EXPORT_FORMS))}.",
                read=one_of(EXPORT_FORMS),
                words=tuple(EXPORT_FORMS),
                flag="--to",
            )
        }
    )
    leave_out: tuple[Site, ...] = option((), LEAVE_OUT)
    base: Path | None = option(
        None,
        Declaration("The GGUF file that the adapter is for: it is checked.", read=Path, kind=Path, flag="--gguf"),
    )
    layers: tuple[int, ...] | None = option(
        None,
        Declaration(
            "Layers of a control vector, by commas. \\[default: that of the edit]",
            read=read_layers,
            write=lambda layers: ",".join(map(str, layers)),
            flag="--layer",
        ),
    )

    @property
    def folder(self) -> Path:
        """Return the folder that holds recipe and directions."""
        return self.edit if self.edit.is_dir() else self.edit.parent

    @property
    def manifest(self) -> Mapping[str, Any] | None:
        """Return the manifest beside it, None where there is none."""
        from abliterate.records.manifest import manifest_beside

        return manifest_beside(self.folder)
