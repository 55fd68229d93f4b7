"""Any rows of the residual stream, each with a name and the layer that it is of: what is explained, and what steers."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.directions.files import read_directions
from abliterate.errors import InputError
from abliterate.projection import ZERO_LENGTH, normalize
from abliterate.studies.features.autoencoder import SparseAutoencoder

LAYER = re.compile(r"(?:^|/)resid\.(\d{1,9})$")


@dataclass(frozen=True)
class Rows:
    """Unit rows; `layers` are None for a row that is of no layer. `sae` is where they are features of one, all of it."""

    source: str
    vectors: Float[Tensor, "rows d_model"]
    names: tuple[str, ...]
    layers: tuple[int | None, ...]
    sae: SparseAutoencoder | None = None

    def __len__(self) -> int:
        return len(self.names)

    def some(self, places: Sequence[int]) -> Rows:
        """Return some of the rows; of an SAE too."""
        own = list(places)
        return Rows(
            self.source,
            self.vectors[own],
            tuple(self.names[one] for one in own),
            tuple(self.layers[one] for one in own),
            self.sae,
        )

    def named(self, names: Sequence[str]) -> list[int]:
        """Return the places of names. Raises InputError for one that is not there."""
        for name in names:
            if name not in self.names:
                known = ", ".join(self.names[:8]) + (" ..." if len(self.names) > 8 else "")
                raise InputError(f"{self.source}: has no row {name}; it has {known}")
        return [self.names.index(name) for name in names]


def rows_of(sae: SparseAutoencoder, layer: int, source: str) -> Rows:
    """Return the features of an SAE whose decoder row has a direction, by their number."""
    alive = [one for one, length in enumerate(sae.decoder.norm(dim=1).tolist()) if length > ZERO_LENGTH]
    return Rows(source, sae.rows(alive), tuple(map(str, alive)), (layer,) * len(alive), sae)


def read_rows(path: Path, d_model: int, layer: int | None = None) -> Rows:
    """Return the rows of a file of directions: of a run, a search, or a study (`form/place/resid.N`).

    `layer` is that of rows whose names do not tell it. Raises InputError for a file that cannot be read, rows of another
    model, and rows that have no direction.
    """
    found, _ = read_directions(path)
    if not found:
        raise InputError(f"{path}: holds no rows; give a file that a run or a study wrote")
    names = sorted(found, key=natural)
    vectors = torch.stack([found[name].float() for name in names]) if same_width(path, found) else torch.empty(0)
    if vectors.shape[-1] != d_model:
        raise InputError(
            f"{path}: its rows are {vectors.shape[-1]} wide, and the model is {d_model}; they belong to another"
        )
    for name, vector in zip(names, vectors, strict=True):
        if not bool(torch.isfinite(vector).all()) or float(vector.norm()) <= ZERO_LENGTH:
            raise InputError(f"{path}: {name} has no direction; take it out of the file")
    layers = [int(one[1]) if (one := LAYER.search(name)) else layer for name in names]
    return Rows(path.name, normalize(vectors), tuple(names), tuple(layers))


def same_width(path: Path, found: dict[str, Tensor]) -> bool:
    """Return True. Raises InputError where rows are of different width."""
    widths = {len(row) for row in found.values()}
    if len(widths) > 1:
        raise InputError(
            f"{path}: its rows are {' and '.join(map(str, sorted(widths)))} wide; they belong to several models"
        )
    return True


def natural(name: str) -> tuple[str, int]:
    """Return what sorts names by their words, then by their layer."""
    found = LAYER.search(name)
    return (name[: found.start()], int(found[1])) if found else (name, -1)
