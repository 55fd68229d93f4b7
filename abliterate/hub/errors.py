"""The Hub's errors, each as one line that says what to do."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from abliterate.errors import AbliterateError, HubError, InputError, first_line

TRANSPORT_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]
"""The root of what huggingface_hub's own HTTP library raises: httpx in its first series, httpx2 since."""

TOKEN_PAGE = "https://huggingface.co/settings/tokens"
LOGIN = "run `hf auth login` or set HF_TOKEN"

TOKEN_VARIABLES = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")
UNSENDABLE = (
    f"the value of HF_TOKEN has a control character or another that no token has; copy it again from {TOKEN_PAGE}"
)

RAISED = (TRANSPORT_ERROR, OSError, ValueError, RuntimeError)
"""What huggingface_hub raises; uploads wrap their failures in a RuntimeError."""


@contextmanager
def hub_errors(name: str, remedy: str | None = None, token: str = "") -> Iterator[None]:
    """Turn what huggingface_hub raises into one line that says what to do, without the token.

    A `remedy` makes it an upload to `name`: each line ends with it. Without one something of `name` is read, and what
    is not the Hub's passes.
    """
    try:
        yield
    except InputError:
        raise
    except RAISED as error:
        if unsendable(error):
            raise InputError(UNSENDABLE) from None  # what was raised quotes the token
        told = told_of_reading(error, name) if remedy is None else told_of_writing(error, name, remedy, token)
        if told is None:
            raise
        raise told from error


def unsendable(error: BaseException) -> bool:
    """Return whether an error comes of a token in the environment that no request can carry."""
    # huggingface_hub itself takes line ends away.
    tokens = [re.sub("[\r\n]", "", os.environ.get(name, "")).strip() for name in TOKEN_VARIABLES]
    if all(re.fullmatch("[!-~]*", token) for token in tokens):
        return False
    raised: list[BaseException] = []
    cause: BaseException | None = error
    while cause is not None and cause not in raised:
        raised.append(cause)
        cause = cause.__cause__ or cause.__context__
    local = (one for one in raised if not isinstance(one, HfHubHTTPError))
    return any(isinstance(one, UnicodeError) or type(one).__name__ == "LocalProtocolError" for one in local)


def told_of_reading(error: BaseException, name: str) -> AbliterateError | None:
    """Return the error to raise for one of a download or a listing, None where it is not the Hub's."""
    if isinstance(error, GatedRepoError):
        return HubError(f"{name}: access is gated; accept its terms on its page, then run `hf auth login`")
    if isinstance(error, RepositoryNotFoundError):
        return InputError(
            f"{name}: no such model on the Hub or on this disk; check the name (private ones need `hf auth login`)"
        )
    if isinstance(error, RevisionNotFoundError):
        return InputError(f"{name}: has no such --revision; give a branch, a tag or a commit")
    if isinstance(error, LocalEntryNotFoundError) and not isinstance(error.__cause__, HfHubHTTPError):
        here = "" if "/" in name else "no such folder or file here, and "
        return HubError(
            f"{name}: {here}is not in the local cache and the Hub cannot be reached; connect, or drop --offline"
        )
    if isinstance(error, HFValidationError):
        return InputError(f"{name}: not a name that the Hub allows; give a folder, a .gguf file or org/name")
    # A server that answers with an error also ends as one without a local entry, once nothing is cached.
    answer = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else error
    if isinstance(answer, HfHubHTTPError):
        status = status_of(answer)
        return HubError(
            f"{name}: the Hub answered {status}; {LOGIN if status in ('401', '403') else 'try again later'}"
        )
    if isinstance(error, TRANSPORT_ERROR):
        said = first_line(error)
        return HubError(f"{name}: the connection to the Hub broke ({said}); try again, what came is kept")
    return None


def told_of_writing(error: BaseException, name: str, remedy: str, token: str) -> AbliterateError:
    """Return the error to raise for one of an upload."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, HfHubHTTPError):
        status = status_of(error)
        words = f": {one_line(error.server_message, token)}" if error.server_message else ""
        said = {
            "401": f"the token was refused (401{words}); is it expired? {LOGIN}",
            "403": f"the token was refused (403{words}); use one that may write there ({TOKEN_PAGE}) or another name",
            "404": "is not on the Hub, or hidden from this token (404); check the name",
        }
        return HubError(f"{name}: {said.get(status, f'the Hub answered {status}{words}')}; {remedy}")
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"{name}: HF_HUB_OFFLINE keeps this machine off the Hub; unset it; {remedy}")
    if isinstance(error, OSError) and error.filename:
        return InputError(f"{error.filename}: cannot be read ({error.strerror}); {remedy}")
    away = isinstance(error, (TRANSPORT_ERROR, ConnectionError, TimeoutError))
    what = "the Hub cannot be reached" if away else "the upload failed"
    return HubError(f"{name}: {what} ({one_line(error, token)}); {remedy}")


def status_of(error: HfHubHTTPError) -> str:
    """Return the status that the Hub answered with."""
    return str(error.response.status_code) if error.response is not None else "nothing"


def one_line(text: object, token: str) -> str:
    """Return the first line of a foreign text, printable, short, and without the token."""
    line = (str(text).strip().splitlines() or [type(text).__name__])[0]
    line = line.replace(token, "***") if token else line
    return "".join(character if character.isprintable() else " " for character in line)[:200]
