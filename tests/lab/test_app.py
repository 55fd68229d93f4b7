"""The lab as an application: its answers, turns as lines, errors with a status."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from starlette.types import Message

from abliterate.lab.app import lab_app
from abliterate.lab.page import policy
from abliterate.lab.session import Session
from fixtures.chat import BAD, GOOD

HOST, TOKEN = "127.0.0.1:8765", "sesame"


class Client:
    """Asks an application, without a server between."""

    def __init__(self, session: Session, folder: Path | None) -> None:
        self.app = lab_app(session, folder, "as\nit was", [HOST], TOKEN)

    def ask(self, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body of an answer."""
        given = body if isinstance(body, bytes) else json.dumps(body).encode()
        scope: dict[str, Any] = {
            "type": "http", "method": method, "path": path, "query_string": b"", "root_path": "",
            "headers": [(b"host", HOST.encode()), (b"authorization", f"Bearer {TOKEN}".encode())],
        }  # fmt: skip
        sent: list[Message] = []
        received = iter([{"type": "http.request", "body": given, "more_body": False}])

        async def receive() -> Message:
            try:
                return next(received)
            except StopIteration:
                await asyncio.sleep(600)
                raise

        async def send(message: Message) -> None:
            sent.append(message)

        asyncio.run(self.app(scope, receive, send))
        headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], headers, b"".join(one.get("body", b"") for one in sent[1:]).decode()

    def turn(self, prompt: Any, direction: str, strength: Any = 1.0) -> tuple[int, Any]:
        """Return the status of a turn, and its lines or its error."""
        status, _, text = self.ask("POST", "/turn", {"prompt": prompt, "direction": direction, "strength": strength})
        return status, [json.loads(one) for one in text.splitlines()] if status == 200 else json.loads(text)["error"]


@pytest.fixture
def client(session: Session, folder: Path) -> Client:
    return Client(session, folder)


def test_a_turn_is_lines_of_json(client: Client, session: Session) -> None:
    name = session.choices[0].name
    status, steps = client.turn(BAD, name)
    assert status == 200
    assert all(step.keys() == {"replies"} for step in steps[:-1])
    assert steps[-1].keys() == {"measured"}
    assert all(one["ended"] for one in steps[-2]["replies"].values())
    assert client.turn("", name) == (400, "there is no prompt; type one")
    assert client.turn(GOOD, "resid.99")[0] == 400
    under_way = session.turn(session_wish(session))
    next(under_way)
    assert client.turn(GOOD, name) == (409, "the model is replying; stop it first")
    assert client.ask("POST", "/stop")[0] == 204
    assert "stopped" in [*under_way][-2]["replies"]["edited"]["verdict"]
    assert client.ask("POST", "/reset")[0] == 204
    assert session.edited.messages == ()


def session_wish(session: Session) -> Any:
    from abliterate.lab.session import Wish

    return Wish(GOOD, session.choices[0].name)


def test_an_error_on_the_way_is_the_last_line(client: Client, session: Session) -> None:
    model = session.edited.side.model
    layer = model.get_submodule("model.layers.3")
    seen: list[int] = []

    def breaks(module: Any, given: Any, made: Any) -> Any:
        seen.append(1)
        return made * float("nan") if len(seen) > 6 else made

    with layer.register_forward_hook(breaks):
        status, steps = client.turn(BAD, session.choices[0].name)
    assert status == 200
    assert "NaN or infinite" in steps[-1]["error"]
    assert client.turn(BAD, session.choices[0].name)[0] == 200  # the next turn may begin


def test_the_pages_and_what_is_none(client: Client, folder: Path, session: Session) -> None:
    status, headers, text = client.ask("GET", "/")
    assert (status, headers["content-security-policy"]) == (200, policy())
    assert '<p class="note">it was</p>' in text
    status, headers, text = client.ask("GET", "/report")
    assert status == 200
    assert "Content-Security-Policy" in text
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert client.ask("GET", "/turn")[0] == 405
    assert client.ask("GET", f"/{folder.name}/model.safetensors")[0] == 404
    assert client.ask("POST", "/turn", b"{")[0] == 400
    status, _, text = Client(session, None).ask("GET", "/report")
    assert (status, text) == (404, "the model is not a folder, and a report is about one")
