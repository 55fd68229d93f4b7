from __future__ import annotations

import pytest

from fixtures.interventions import ACTS, Act


@pytest.fixture(params=sorted(ACTS))
def act(request: pytest.FixtureRequest) -> Act:
    return ACTS[request.param]
