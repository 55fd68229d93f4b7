from __future__ import annotations

from pathlib import Path

import pytest

from fixtures.training import edited


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edited(tmp_path_factory.mktemp("heal"))
