"""Who is let in: the page with its token, on this machine under its own address. Needs the extra `lab`."""

from __future__ import annotations

import secrets
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from abliterate.lab.page import CLOSED

SAFE = {
    "cache-control": "no-store",
    "content-security-policy": CLOSED,
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}
"""What every answer says to the browser, where it does not say it in its own way."""

BEARER = "Bearer "


class Guard:
    """Lets through what names one of `hosts` and holds the token, in the address or as a bearer's; the rest is 403.

    A page of another site that makes its name point to this machine (DNS rebinding) names another host.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str], token: str) -> None:
        self.app = app
        self.hosts = hosts
        self.token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SAFE.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["type"] != "http":
            return
        refused = self.refusal(Request(scope))
        if refused is None:
            await self.app(scope, receive, safely)
        else:
            await PlainTextResponse(refused, 403)(scope, receive, safely)

    def refusal(self, request: Request) -> str | None:
        """Return why a request is not let in, None where it is."""
        headers: Headers = request.headers
        if headers.get("host") not in self.hosts:
            return "this address is not the lab's; open the one that abliterate lab printed"
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self.hosts}:
            return "another page's requests are not answered"
        said = headers.get("authorization", "")
        given = said.removeprefix(BEARER) if said.startswith(BEARER) else request.query_params.get("token", "")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return "the token in the address is missing or another; open the address that abliterate lab printed"
        return None
