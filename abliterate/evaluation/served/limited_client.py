"""The HTTP client under the `openai` package, with an end to each reply: in time, and in bytes.

The timeouts of HTTP libraries count the silence between two bytes, and none of them limits how large a body may grow. A
server that trickles would hold a run for ever, and one that floods (or sends a few kilobytes that unpack to gigabytes)
would take its memory. Imported only where the package is there.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import openai

MOST_BYTES = 16_000_000
"""Bytes of one reply, unpacked: a hundred times what the longest replies and lists of models take."""

ENCODINGS = ("", "identity", "gzip", "deflate")
"""Packings that are read, one at a time: each step unpacks to at most a thousand times of what has come."""

DESCRIBING_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")


class OverlongReplyError(openai.OpenAIError):  # type: ignore[misc]
    """A reply without end, or packed so that its size cannot be told beforehand."""


class LimitedClient(openai.DefaultAsyncHttpxClient):  # type: ignore[misc]
    """Reads each reply whole, within the read timeout of its request and up to MOST_BYTES."""

    async def send(self, request: Any, *, stream: bool = False, **named: Any) -> Any:
        """Return the response, whose body has been read, unpacked.

        Raises OverlongReplyError for one that is too large, and the library's own ReadTimeout for one that takes longer.
        """
        seconds = request.extensions["timeout"]["read"]
        try:
            return await asyncio.wait_for(self._whole(request, named), seconds)
        except asyncio.TimeoutError as error:
            # The package knows, and repeats, the timeouts of its library, whose name has changed once.
            library: Any = sys.modules[openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0]]
            raise library.ReadTimeout(f"no whole reply within {seconds:g} s", request=request) from error

    async def _whole(self, request: Any, named: dict[str, Any]) -> Any:
        response = await super().send(request, stream=True, **named)
        try:
            encoding = response.headers.get("content-encoding", "").strip().lower()
            if encoding not in ENCODINGS:
                raise OverlongReplyError(f"a reply packed as {encoding[:40]!r}; only gzip and deflate are unpacked")
            body = bytearray()
            async for block in response.aiter_bytes():
                body += block
                if len(body) > MOST_BYTES:
                    raise OverlongReplyError(f"a reply of more than {MOST_BYTES / 1e6:.0f} MB")
        finally:
            await response.aclose()
        headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in DESCRIBING_THE_BODY]
        return type(response)(response.status_code, headers=headers, content=bytes(body), request=request)
