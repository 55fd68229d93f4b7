"""What each cluster's centroid says, in words: ten by mutual information, for which the centroids compete with each other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from abliterate.errors import ArchitectureError
from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.material import Material
from abliterate.studies.features.run import explain
from abliterate.studies.features.words import vocabulary, words_of

WORDS = 10


@dataclass(frozen=True)
class CentroidWords:
    """The words of each centroid, the best first, and how many words there were to choose among."""

    words: tuple[tuple[str, ...], ...]
    vocabulary: int


def centroid_words(
    live: LiveModel, centroids: Float[Tensor, "k d_model"], texts: Sequence[str]
) -> CentroidWords | None:
    """Return ten words for each centroid, chosen among those of the texts: of one centroid alone the nearest ones (`explain`).

    None for a stream of several lanes, and for texts without words enough of Latin letters or Hangul.
    """
    if len({word for text in texts for word in words_of(text)}) < 2 * WORDS:
        return None
    known = vocabulary(texts)
    try:
        found = explain(live, centroids.float(), known, count=WORDS)
    except ArchitectureError:
        return None
    return CentroidWords(found.words, len(known))


def texts_of(material: Material) -> list[str]:
    """Return what the study has asked and heard: phrases of both sides, and replies."""
    asked = [phrase.on(side) for unit in material.units for phrase in unit.phrases for side in ("harmful", "harmless")]
    return [*(asked or material.names), *(str(row["text"]) for row in material.replies)]
