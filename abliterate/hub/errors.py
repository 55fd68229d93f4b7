"""The Hub's errors, each as one line that says what to do."""

from __future__ import annotations

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
"""What the Hub's HTTP library raises when a connection breaks; the library has changed between versions."""


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line that says what to do."""
    try:
        yield
    except GatedRepoError as error:
        raise HubError(f"{name}: access is gated; accept its terms on its page, then run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{name}: no such model on the Hub or on this disk; check the name (private ones need `hf auth login`)"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{name}: has no such --revision; give a branch, a tag or a commit") from error
    except LocalEntryNotFoundError as error:
        # A server that answers with an error also ends here, once nothing is cached.
        if isinstance(error.__cause__, HfHubHTTPError):
            raise answered(name, error.__cause__) from error
        raise HubError(
            f"{name}: is not in the local cache and the Hub cannot be reached; connect, or drop --offline"
        ) from error
    except HFValidationError as error:
        raise InputError(f"{name}: not a name that the Hub allows; give a folder, a .gguf file or org/name") from error
    except HfHubHTTPError as error:
        raise answered(name, error) from error
    except TRANSPORT_ERROR as error:
        raise HubError(
            f"{name}: the connection to the Hub broke ({first_line(error)}); try again, what came is kept"
        ) from error


def answered(name: str, error: HfHubHTTPError) -> HubError:
    """Return the error for a Hub that answered, but with an error."""
    status = error.response.status_code if error.response is not None else "no answer"
    way_out = "run `hf auth login` or set HF_TOKEN" if status in (401, 403) else "try again later"
    return HubError(f"{name}: the Hub answered {status}; {way_out}")


TOKEN_PAGE = "https://huggingface.co/settings/tokens"
LOGIN = "run `hf auth login` or set HF_TOKEN"

# The root of what huggingface_hub's own HTTP library raises: httpx in its first series, httpx2 since.
HTTPError: type[Exception] = HfHubHTTPError.__mro__[1]


@contextmanager
def hub_failing(repository: str, token: str, remedy: str) -> Iterator[None]:
    """Turn what fails on the way to the Hub into one line, without the token, that ends with the way out."""
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:  # uploads wrap their failure in a RuntimeError
        raise explained(error, repository, token, remedy) from error


def explained(error: BaseException, repository: str, token: str, remedy: str) -> AbliterateError:
    """Return the error to raise for one of huggingface_hub."""
    while isinstance(error, RuntimeError) and error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, HfHubHTTPError):
        return refused(error, repository, token, remedy)
    if isinstance(error, OfflineModeIsEnabled):
        return HubError(f"{repository}: HF_HUB_OFFLINE keeps this machine off the Hub; unset it; {remedy}")
    if isinstance(error, OSError) and error.filename:
        return InputError(f"{error.filename}: cannot be read ({error.strerror}); {remedy}")
    away = isinstance(error, (HTTPError, ConnectionError, TimeoutError))
    what = "the Hub cannot be reached" if away else "the upload failed"
    return HubError(f"{repository}: {what} ({one_line(error, token)}); {remedy}")


def refused(error: HfHubHTTPError, repository: str, token: str, remedy: str) -> HubError:
    """Return the error to raise for an answer of the Hub that is none of success."""
    status = error.response.status_code if error.response is not None else "nothing"
    words = f": {one_line(error.server_message, token)}" if error.server_message else ""
    if status == 401:
        return HubError(f"{repository}: the token was refused (401{words}); is it expired? {LOGIN}; {remedy}")
    if status == 403:
        way = f"use one that may write there ({TOKEN_PAGE}) or another name"
        return HubError(f"{repository}: the token was refused (403{words}); {way}; {remedy}")
    if status == 404:
        return HubError(f"{repository}: is not on the Hub, or hidden from this token (404); check the name; {remedy}")
    return HubError(f"{repository}: the Hub answered {status}{words}; {remedy}")


def one_line(text: object, token: str) -> str:
    """Return the first line of a foreign text, printable, short, and without the token."""
    line = (str(text).strip().splitlines() or [type(text).__name__])[0].replace(token, "***")
    return "".join(character if character.isprintable() else " " for character in line)[:200]
