"""The server: on this machine's loopback alone, in a thread of its own, until its context ends. Needs the extra `lab`."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from abliterate.errors import InputError

LOOPBACK = "127.0.0.1"

SHUTDOWN_SECONDS = 5
"""How long the end waits for answers under way: a token takes less."""


def bound(port: int) -> socket.socket:
    """Return a socket at a port of the loopback, a free one for 0. Raises InputError where it cannot be had."""
    held = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    if os.name == "posix":  # a port that was left a moment ago can be had; on Windows this would share one with others
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        held.bind((LOOPBACK, port))
    except (OSError, OverflowError) as error:
        held.close()
        why = getattr(error, "strerror", None) or "ports are 0 to 65535"
        raise InputError(f"--port {port}: cannot be listened at ({why}); 0 takes a free one") from None
    return held


def hosts_of(held: socket.socket) -> tuple[str, ...]:
    """Return the names under which a browser on this machine may ask for the socket's server, the shown one first."""
    port = held.getsockname()[1]
    return f"{LOOPBACK}:{port}", f"localhost:{port}"


@contextmanager
def serving(app: object, held: socket.socket) -> Iterator[threading.Event]:
    """Serve an application at a socket while the context lasts; what is yielded is set where the server ends before."""
    import uvicorn

    config = uvicorn.Config(
        app,  # type: ignore[arg-type]
        loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False, proxy_headers=False,
        server_header=False, timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )  # fmt: skip
    server = uvicorn.Server(config)
    ended = threading.Event()

    def run() -> None:
        try:
            server.run([held])
        finally:
            ended.set()

    thread = threading.Thread(target=run, name="lab", daemon=True)
    thread.start()
    try:
        while not server.started and not ended.wait(0.01):
            pass
        yield ended
    finally:
        server.should_exit = True
        thread.join(2 * SHUTDOWN_SECONDS)
