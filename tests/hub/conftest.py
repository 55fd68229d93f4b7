from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fixtures.hub import READER, make_result
from servers.hub_client import TOKEN, Client
from servers.hub_server import HubServer


@pytest.fixture(scope="session")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.account(TOKEN, "me", organisations=("team",))
        server.account(READER, "me", role="read")
        yield server


@pytest.fixture(scope="session")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    one = Client(hub, tmp_path_factory.mktemp("client"))
    yield one
    one.close()


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return make_result(tmp_path / "edited")
