"""A study of a model whose three refusal directions are known, for all tests that look at what a study holds."""

from __future__ import annotations

import pytest
import torch

from abliterate.models.live_model import LiveModel
from abliterate.studies.clusters.asked import Asked
from abliterate.studies.clusters.material import Material
from abliterate.studies.clusters.run import Clusters, studied
from fixtures.planted_clusters import LAYER, planted_clusters

Toy = tuple[LiveModel, Material, torch.Tensor]


@pytest.fixture(scope="session")
def toy() -> Toy:
    """A model of three kinds of prompts, each refused by a direction of its own."""
    return planted_clusters(3)


@pytest.fixture(scope="session")
def three(toy: Toy) -> Clusters:
    """The study of it, with few nulls."""
    live, material, _ = toy
    return studied(live, material, Asked(layer=LAYER, compare=("categories",), null=3))
