"""Bounds on what a server may answer: a reply has so many seconds from first to last byte, and so many bytes.

A read timeout counts only the silence between two bytes, and a compressed body grows a thousandfold where it is
unpacked: replies are asked for as they are, counted as they arrive, and given up at the deadline.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any

from abliterate.errors import InputError

MOST_BYTES = 32 << 20
"""Of one answer: replies of a million tokens take some 5 MB, lists of a thousand models 1 MB."""

MOST_REDIRECT_BYTES = 64 << 10
"""Of a page that says that what is asked for is elsewhere, which is read and thrown away."""

PLAIN = "identity"
"""The content encoding of what is not compressed."""


class FailingServerError(InputError):
    """The server does not answer, or fails, again and again."""


def limited_client(openai: Any, timeout: Any, seconds: float) -> Any:
    """Return an HTTP client for the `openai` package that ends each answer at `seconds` and MOST_BYTES.

    Its requests raise the library's own read timeout at the deadline, and FailingServerError for what is too long or
    compressed although plain text was asked for.
    """
    client_type = next(one for one in openai.DefaultAsyncHttpxClient.__mro__ if one.__name__ == "AsyncClient")
    library: Any = importlib.import_module(client_type.__module__.partition(".")[0])  # httpx, or what came after it
    parent: Any = openai.DefaultAsyncHttpxClient

    class LimitedClient(parent):  # type: ignore[misc]
        async def send(self, request: Any, *, stream: bool = False, **how: Any) -> Any:
            """Send a request, and return its answer read to the end."""
            try:
                return await asyncio.wait_for(self.whole(request, **how), seconds)
            except (TimeoutError, asyncio.TimeoutError) as error:
                raise library.ReadTimeout("the answer did not end in time", request=request) from error

        async def whole(self, request: Any, **how: Any) -> Any:
            answer = await super().send(request, stream=True, **how)
            try:
                content = await read_within(answer, MOST_BYTES)
            finally:
                await answer.aclose()
            headers = [(name, value) for name, value in answer.headers.multi_items() if name not in BODY_HEADERS]
            return library.Response(
                answer.status_code, headers=headers, content=content, request=answer.request, history=answer.history
            )

    hooks = {"response": [bounded_redirect]}
    return LimitedClient(timeout=timeout, headers={"Accept-Encoding": PLAIN}, event_hooks=hooks)


BODY_HEADERS = ("content-length", "content-encoding", "transfer-encoding")
"""What says how the body came over the wire."""


async def read_within(answer: Any, most: int) -> bytes:
    """Return the body of an answer. Raises FailingServerError for one that is compressed, or longer than `most` bytes."""
    coded = answer.headers.get("content-encoding", PLAIN).strip().lower()
    if coded not in ("", PLAIN):
        raise FailingServerError(
            f"{answer.request.url.host} compresses its answers ({coded[:40]}), although they were asked for as they are; turn "
            "that off in the server, or in what stands before it"
        )
    content = bytearray()
    async for part in answer.aiter_raw():
        content += part
        if len(content) > most:
            raise FailingServerError(
                f"{answer.request.url.host} answers with more than {most / 1e6:.0f} MB; give the URL of a chat server"
            )
    return bytes(content)


async def bounded_redirect(answer: Any) -> None:
    """Raise FailingServerError for a redirect whose page is long, or does not say how long it is."""
    length = answer.headers.get("content-length", "0" if "transfer-encoding" not in answer.headers else "")
    if answer.has_redirect_location and not (length.isdecimal() and int(length) <= MOST_REDIRECT_BYTES):
        raise FailingServerError(f"{answer.request.url.host} redirects without end; give the URL of a chat server")
