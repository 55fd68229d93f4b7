"""Every failure of the Hub is one line that says what to do: of a download, and of an upload, without its token."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import huggingface_hub.errors as hub
import pytest

from abliterate.errors import AbliterateError, HubError, InputError
from abliterate.hub.errors import TRANSPORT_ERROR, hub_errors, one_line
from fixtures.hub import EXPIRED, READER, failed
from servers.hub_client import TOKEN, Client
from servers.hub_server import HubServer


class Response:
    """What the errors keep of an answer."""

    headers: dict[str, str] = {}  # noqa: RUF012
    request = None

    def __init__(self, status: int) -> None:
        self.status_code = status


def answer(kind: type[hub.HfHubHTTPError], status: int, words: str = "") -> hub.HfHubHTTPError:
    return kind("said", response=Response(status), server_message=words)  # type: ignore[arg-type]


def caused(error: BaseException, cause: BaseException) -> BaseException:
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (answer(hub.GatedRepoError, 403), HubError, "access is gated; accept its terms"),
        (answer(hub.RepositoryNotFoundError, 404), InputError, "no such model on the Hub or on this disk"),
        (answer(hub.RevisionNotFoundError, 404), InputError, "has no such --revision"),
        (hub.LocalEntryNotFoundError("none"), HubError, "is not in the local cache and the Hub cannot be reached"),
        (caused(hub.LocalEntryNotFoundError("none"), answer(hub.HfHubHTTPError, 503)), HubError, "the Hub answered 503; try"),
        (answer(hub.HfHubHTTPError, 401), HubError, "the Hub answered 401; run `hf auth login`"),
        (hub.HFValidationError("bad"), InputError, "not a name that the Hub allows"),
        (TRANSPORT_ERROR("reset\nby peer"), HubError, r"the connection to the Hub broke \(reset\); try again"),
    ],
)  # fmt: skip
def test_what_a_download_raises(error: Exception, kind: type[AbliterateError], message: str) -> None:
    with pytest.raises(kind, match=f"^org/model: {message}") as raised, hub_errors("org/model"):
        raise error
    assert raised.value.__cause__ is error
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "error", [OSError(28, "No space left"), ValueError("mine"), RuntimeError("mine"), KeyError("mine")]
)
def test_what_is_not_the_hubs_passes_a_download(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, hub_errors("org/model"):
        raise error
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (answer(hub.HfHubHTTPError, 401, "expired hf_x"), HubError, r"the token was refused \(401: expired \*\*\*\); is it"),
        (answer(hub.GatedRepoError, 403), HubError, r"the token was refused \(403\); use one that may write there"),
        (answer(hub.RepositoryNotFoundError, 404), HubError, r"is not on the Hub, or hidden from this token \(404\)"),
        (answer(hub.HfHubHTTPError, 500, "busy\nvery"), HubError, "the Hub answered 500: busy; "),
        (caused(RuntimeError("upload"), answer(hub.HfHubHTTPError, 503)), HubError, "the Hub answered 503; "),
        (hub.OfflineModeIsEnabled("offline"), HubError, "HF_HUB_OFFLINE keeps this machine off the Hub"),
        (TRANSPORT_ERROR("no hf_x route"), HubError, r"the Hub cannot be reached \(no \*\*\* route\)"),
        (RuntimeError("odd"), HubError, r"the upload failed \(odd\)"),
    ],
)  # fmt: skip
def test_what_an_upload_raises(error: Exception, kind: type[AbliterateError], message: str) -> None:
    with pytest.raises(kind, match=f"^me/mine: {message}") as raised, hub_errors("me/mine", "retry with: it", "hf_x"):
        raise error
    assert str(raised.value).endswith("; retry with: it")
    assert "hf_x" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_file_that_an_upload_cannot_read_is_the_users() -> None:
    with (
        pytest.raises(InputError, match=r"^/a/file: cannot be read \(Permission denied\); retry with: it$"),
        hub_errors("me/mine", "retry with: it", "hf_x"),
    ):
        raise PermissionError(13, "Permission denied", "/a/file")


def test_without_a_token(hub: HubServer, client: Client, result: Path) -> None:
    requests = len(hub.requests)
    client.run("import os\nos.environ['HF_TOKEN'] = ''")
    try:
        for call in (client.push(result, "me/never"), client.check("me/never")):
            assert client.error(call) == ("HubError", "no Hub token; run `hf auth login` or set HF_TOKEN")
    finally:
        client.run(f"import os\nos.environ['HF_TOKEN'] = {TOKEN!r}")
    strange = client.error(client.push(result, "me/never", token=f"{TOKEN}\n{TOKEN}"))[1]
    assert strange.startswith("the Hub token holds characters that no token has")
    assert len(hub.requests) == requests


def test_expired_token(client: Client, result: Path) -> None:
    kind, message = client.error(client.push(result, "me/never", token=EXPIRED))
    assert kind == "HubError"
    assert message.startswith("me/never: the token was refused (401")
    assert "run `hf auth login` or set HF_TOKEN" in message
    assert f"retry with: abliterate push {result} me/never" in message
    kind, message = client.error(client.check("me/never", token=EXPIRED))
    assert kind == "HubError"
    assert message.startswith("me/never: the token was refused (401")
    assert message.endswith("or leave --push out and push the result later")


def test_token_without_rights(client: Client, result: Path) -> None:
    kind, message = client.error(client.push(result, "me/never", token=READER))
    assert kind == "HubError"
    assert "the token was refused (403" in message
    assert "the token may only read" in client.error(client.check("me/never", token=READER))[1]
    assert client.error(client.push(result, "stranger/never"))[0] == "HubError"
    assert "the token writes to me and team, not to stranger" in client.error(client.check("stranger/never"))[1]


def test_the_hub_out_of_reach(hub: HubServer, client: Client, result: Path) -> None:
    with hub.unreachable():
        failed(client, result, "me/away", "the Hub cannot be reached (")
        kind, message = client.error(client.check("me/away"))
        assert kind == "HubError"
        assert "the Hub cannot be reached (" in message


def test_what_the_server_says_is_one_line_without_the_token(hub: HubServer, client: Client, result: Path) -> None:
    with hub.fail("POST", "/repos/create", 418, message=f"no {TOKEN}\x1b[31m for you" + "!" * 900):
        kind, message = client.error(client.push(result, "me/never"))
    assert kind == "HubError"
    assert "no *** [31m for you!" in message
    assert len(message) < 600


def test_a_foreign_text_is_short_and_printable() -> None:
    assert one_line("\n first\tline\x1b[31m \nsecond", "t0ken") == "first line [31m "
    assert one_line("", "") == "str"
    assert len(one_line("x" * 999, "t0ken")) == 200


@pytest.mark.parametrize("token", ["hf_sec\x0bret", "hf_sécret"])
def test_a_token_that_cannot_be_sent_is_never_said(hub: HubServer, monkeypatch: pytest.MonkeyPatch, token: str) -> None:
    """The HTTP library itself refuses the header, before anything is sent."""
    monkeypatch.setenv("HF_TOKEN", token)
    library = import_module(TRANSPORT_ERROR.__module__.partition(".")[0])
    with pytest.raises(InputError, match="the value of HF_TOKEN has a control") as raised, hub_errors("org/model"):
        library.get(hub.endpoint, headers={"authorization": f"Bearer {token}"})
    assert "ret" not in str(raised.value)
    assert raised.value.__cause__ is None


def test_a_token_that_can_be_sent_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_whole\n")  # huggingface_hub itself takes line ends away
    with pytest.raises(HubError, match="the connection to the Hub broke"), hub_errors("org/model"):
        raise TRANSPORT_ERROR("reset")


@pytest.mark.parametrize("remedy", [None, "push again"])
def test_what_is_said_already_is_not_said_twice(remedy: str | None) -> None:
    """An InputError is a ValueError, which huggingface_hub raises too."""
    with pytest.raises(InputError, match=r"^me/x: is not whole; finish it$"), hub_errors("me/x", remedy):
        raise InputError("me/x: is not whole; finish it")
