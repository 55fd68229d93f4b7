"""The server: at the loopback alone, until its context ends."""

from __future__ import annotations

import socket
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from starlette.responses import PlainTextResponse

from abliterate.errors import InputError
from abliterate.lab.server import LOOPBACK, bound, hosts_of, serving


def test_it_listens_on_the_loopback_alone() -> None:
    with bound(0) as held:
        address, port = held.getsockname()
        assert (address, LOOPBACK) == ("127.0.0.1", "127.0.0.1")
        assert hosts_of(held) == (f"127.0.0.1:{port}", f"localhost:{port}")
        with serving(PlainTextResponse("here"), held) as ended:
            assert urlopen(f"http://127.0.0.1:{port}/").read() == b"here"
            assert not ended.is_set()
            with socket.socket() as other:
                other.settimeout(2)
                assert other.connect_ex(("127.0.0.2", port)) != 0  # this machine too, by another address
        assert ended.is_set()
        with pytest.raises(URLError):
            urlopen(f"http://127.0.0.1:{port}/")


def test_a_port_that_cannot_be_had_is_one_line() -> None:
    with bound(0) as held:
        held.listen()
        port = held.getsockname()[1]
        with pytest.raises(InputError, match=rf"--port {port}: cannot be listened at \(.*\); 0 takes a free one"):
            bound(port)
    with pytest.raises(InputError, match="ports are 0 to 65535"):
        bound(70000)
