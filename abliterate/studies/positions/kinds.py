"""Do refusing sentences of the same kind begin from like states? Looked at before the sentence: inside of it are its words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy
from numpy.typing import NDArray

from abliterate.studies.positions.cells import REFUSED, Cell
from abliterate.studies.positions.method import class_of
from abliterate.studies.positions.similarity import Grouped, class_test, silhouette

PICTURED = 400
"""States in the picture, at most."""


@dataclass(frozen=True)
class Kinds:
    """States at one location, before sentences that refuse: of which kind each is, and whether like kinds lie together."""

    location: int
    layer: int
    classes: tuple[str, ...]
    forms: tuple[str, ...]
    points: NDArray[numpy.float64]
    test: Grouped | None
    silhouette: float

    @property
    def counts(self) -> dict[str, int]:
        """Return how many sentences are of each kind."""
        return dict(Counter(self.classes))

    def to_json(self) -> dict[str, object]:
        """Return counts, test, silhouette, and the picture along two principal components."""
        return {
            "location": self.location,
            "layer": self.layer,
            "counts": self.counts,
            "test": self.test.to_json() if self.test else None,
            "silhouette": self.silhouette,
            "points": [
                {"class": name, "form": form, "x": round(float(x), 4), "y": round(float(y), 4)}
                for name, form, (x, y) in list(zip(self.classes, self.forms, self.points, strict=True))[:PICTURED]
            ],
        }


def kinds_at(cells: Mapping[str, Cell], location: int, layer: int, seed: int = 0) -> Kinds | None:
    """Return the kinds of refusing sentences at a location, over all forms that have a vector there; None without any."""
    states, classes, forms = [], [], []
    for cell in cells.values():
        if cell.location != location or cell.kind != REFUSED or layer not in cell.layers:
            continue
        rows = cell.states[:, cell.layers.index(layer)].double().numpy()
        for row, label, sentence in zip(rows, cell.labels, cell.sentences, strict=True):
            if sentence and label >= 0.5:
                states.append(row)
                classes.append(class_of(sentence))
                forms.append(cell.form)
    if len(states) < 3:
        return None
    stacked = numpy.stack(states)
    centred = centred_within(stacked, forms)
    return Kinds(
        location, layer, tuple(classes), tuple(forms), components(centred), class_test(stacked, classes, forms, seed=seed),
        silhouette(centred, classes),
    )  # fmt: skip


def centred_within(states: NDArray[numpy.float64], groups: list[str]) -> NDArray[numpy.float64]:
    """Return the states without the mean of their group."""
    found: NDArray[numpy.float64] = states.copy()
    for name in dict.fromkeys(groups):
        own = numpy.asarray([one == name for one in groups])
        found[own] -= found[own].mean(0)
    return found


def components(states: NDArray[numpy.float64]) -> NDArray[numpy.float64]:
    """Return the states along their first two principal components."""
    centred = states - states.mean(0)
    left, scales, _ = numpy.linalg.svd(centred, full_matrices=False)
    found: NDArray[numpy.float64] = (left * scales)[:, :2]
    return found
