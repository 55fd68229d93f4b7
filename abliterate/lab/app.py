"""The lab as a web application: the page, the report, and turns as lines of JSON. Needs the extra `lab`."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from abliterate.errors import AbliterateError, InputError, one_short_line
from abliterate.lab.guard import Guard
from abliterate.lab.page import UNFRAMED, page, policy
from abliterate.lab.session import BusyError, Session, Steps, Wish, edit_of
from abliterate.lab.studies import drawn, studies_in
from abliterate.storage.foreign_files import parse_json

LINES = "application/x-ndjson"


def lab_app(session: Session, folder: Path | None, note: str, hosts: Collection[str], token: str) -> Starlette:
    """Return the application about a session, and the folder that it was opened on."""

    async def home(_: Request) -> Response:
        lines = note.splitlines()
        title = session.edited.side.name
        text = page(edit_of(session), title, lines, await run_in_threadpool(studies_in, folder), token)
        return HTMLResponse(text, headers={"content-security-policy": policy()})

    async def turn(request: Request) -> Response:
        wish = Wish.from_json(parsed(await request.body()))
        turns = session.turn(wish)
        # What is wrong before the first word has a status of its own.
        first = await run_in_threadpool(next, turns)
        return StreamingResponse(lines_of(first, turns), media_type=LINES)

    async def stop(_: Request) -> Response:
        session.stop()
        return Response(status_code=204)

    async def reset(_: Request) -> Response:
        await run_in_threadpool(session.reset)
        return Response(status_code=204)

    async def report(_: Request) -> Response:
        return HTMLResponse(await run_in_threadpool(drawn, folder), headers={"content-security-policy": UNFRAMED})

    return Starlette(
        routes=[
            Route("/", home),
            Route("/report", report),
            Route("/turn", turn, methods=["POST"]),
            Route("/stop", stop, methods=["POST"]),
            Route("/reset", reset, methods=["POST"]),
        ],
        middleware=[Middleware(Guard, hosts=hosts, token=token)],
        exception_handlers={AbliterateError: failed},
    )


def parsed(body: bytes) -> Any:
    """Return what a request holds. Raises InputError for what is no JSON."""
    try:
        return parse_json(body)
    except ValueError as error:
        raise InputError(f"the request is no JSON: {error}") from None


async def lines_of(first: Mapping[str, Any], turns: Steps) -> AsyncIterator[str]:
    """Yield one line of JSON for each step of a turn; an error on the way is the last. Who goes away ends the turn."""
    try:
        yield line(first)
        async for step in iterate_in_threadpool(turns):
            yield line(step)
    except AbliterateError as error:
        yield line({"error": one_short_line(str(error))})
    finally:
        turns.close()


def line(step: Mapping[str, Any]) -> str:
    """Return one step as a line."""
    return json.dumps(step, allow_nan=False) + "\n"


async def failed(request: Request, error: Exception) -> Response:
    """Answer with what went wrong in a line: text where a person asked for a page, JSON for the script."""
    said = one_short_line(str(error))
    if request.method == "GET":
        return PlainTextResponse(said, 404)
    return JSONResponse({"error": said}, 409 if isinstance(error, BusyError) else 400)
