"""Every failure of the Hub is one line that says what to do: of a download, and of an upload, without its token."""

from __future__ import annotations

import huggingface_hub.errors as hub
import pytest

from abliterate.errors import AbliterateError, HubError, InputError
from abliterate.hub.errors import TRANSPORT_ERROR, hub_errors


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
