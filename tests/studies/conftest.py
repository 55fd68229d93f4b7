"""Models that tests of several studies ask."""

from __future__ import annotations

import pytest
import torch

from abliterate.models.live_model import LiveModel
from fixtures.planted import planted_model


@pytest.fixture
def planted() -> tuple[LiveModel, torch.Tensor]:
    """Return a model that says `SAFE` by the component along a direction, and the direction."""
    return planted_model()
