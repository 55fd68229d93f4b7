"""Replies from a server that speaks the OpenAI chat protocol: vLLM, SGLang, llama.cpp, and others.

Decoding is greedy (temperature 0, seed 0). Requests go through the `openai` package, which waits and asks again when
the server is busy or fails; replies are kept as they arrive, so that the same call goes on after whatever stopped it.

A server does not say which weights it has loaded: one that is started anew with other weights under the same name and
address would be given the kept replies of the old ones. `Endpoint.weights` tells them apart.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlsplit

from abliterate.errors import InputError
from abliterate.evaluation.served.reply_cache import CachedConversation, CachedReply, ReplyCache, is_reply, reply_key
from abliterate.evaluation.served.reply_limits import FailingServerError, limited_client
from abliterate.extras import require
from abliterate.progress import SILENT, Progress

CONNECT_SECONDS = 10.0
WORDS = 300
"""Characters of a server's own message that are shown."""

NO_KEY = "none"
"""Sent as the key where the environment has none; servers that want none do not look at it."""

MISSHAPEN = (ValueError, TypeError, AttributeError, IndexError, KeyError, RecursionError)
"""What comes of an answer that is no JSON, nests without end, or has another shape."""

TOO_LONG = re.compile(r"context[ _](?:length|size|window)|max_model_len|too (?:long|large|many tokens)", re.I)
"""How servers say that a conversation is longer than their context: vLLM, SGLang, llama.cpp, OpenAI."""


@dataclass(frozen=True)
class Endpoint:
    """Where a served model answers.

    `url` with or without `/v1`; `model` is the name under which it is served, None for the only one there is. The key
    is read from the environment variable `api_key_variable` when a request is sent, and kept nowhere. `weights`
    may be anything that names what the server has loaded, such as a checkpoint's hash: replies kept under another
    value are not taken. `timeout` is in seconds for one reply; `retries` counts what follows a failed request. `named_by` is the flag with
    which a user names the model, for messages.

    Raises InputError for a URL that is none, or that holds a password or a query.
    """

    url: str
    model: str | None = None
    api_key_variable: str = "OPENAI_API_KEY"
    weights: str = ""
    timeout: float = 600.0
    retries: int = 5
    named_by: str = "--served-model"

    def __post_init__(self) -> None:
        """Check the URL."""
        _ = self.base

    @property
    def base(self) -> str:
        """Return the URL that the protocol's paths are appended to, such as `http://localhost:8000/v1`."""
        try:
            parts = urlsplit(self.url if "://" in self.url else f"http://{self.url}")
            good = parts.scheme in ("http", "https") and parts.hostname is not None and parts.port != 0
            good = good and parts.geturl().isprintable() and " " not in parts.geturl()
        except ValueError:  # brackets that do not match, a port that is no number
            good = False
        if not good:
            raise InputError("the endpoint is not the URL of a server; give one such as http://localhost:8000/v1")
        if parts.username or parts.password or parts.query:
            raise InputError(
                "the endpoint's URL holds a password or a query, which would show up in messages; leave it out and "
                f"put the key into the environment variable {self.api_key_variable}"
            )
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        versioned = any(re.fullmatch(r"v\d+\w*", part) for part in path.split("/"))
        return f"{parts.scheme}://{parts.netloc}{path}{'' if versioned else '/v1'}"

    @property
    def shown_name(self) -> str:
        """Return what records call it: the served name, since the address is nobody else's business."""
        return f"served {self.model}" if self.model else "the served model"


class RejectedRequestError(InputError):
    """The server understands the request and will not do it, however often it is asked."""


def endpoint_replies(
    endpoint: Endpoint,
    conversations: Sequence[CachedConversation],
    max_new_tokens: int,
    *,
    concurrency: int = 8,
    cache: ReplyCache | None,
    progress: Progress = SILENT,
    answer_format: Mapping[str, Any] | None = None,
    title: str = "asking the server",
) -> list[CachedReply]:
    """Return the greedy reply to each conversation, in their order; equal conversations are asked once.

    `concurrency` requests are under way at once. What `cache` holds is not asked again; when it holds everything and
    `endpoint.model` is given, no server is needed. `answer_format` is the protocol's `response_format`. Thoughts that
    the server returns apart from the reply are left out.

    Raises InputError for limits below 1, without the `openai` package, and for whatever the server answers instead
    of a reply. An interrupt cancels what is under way; what has arrived is kept.
    """
    if max_new_tokens < 1 or concurrency < 1:
        raise InputError(
            f"{max_new_tokens} tokens for a reply, {concurrency} requests at once: expected at least 1 of each"
        )
    if not conversations:
        return []
    endpoint = endpoint if endpoint.model else replace(endpoint, model=served_model(endpoint))
    request: dict[str, Any] = {"model": endpoint.model, "max_tokens": max_new_tokens, "temperature": 0, "seed": 0}
    request |= {"response_format": dict(answer_format)} if answer_format else {}
    kept = cache.under({"url": endpoint.base, "weights": endpoint.weights, **request}) if cache else None
    asked = [reply_key(conversation) for conversation in conversations]
    counts = Counter(asked)
    found = {key: kept.known(key) for key in counts} if kept else {}
    answers = {key: answer for key, answer in found.items() if answer}
    missing = {key: conversation for key, conversation in zip(asked, conversations, strict=True) if key not in answers}
    with progress.step(title, len(asked), "replies") as advance:

        def arrived(key: str, answer: CachedReply) -> None:
            if kept is not None:
                kept.add(key, answer)
            answers[key] = answer
            advance(counts[key])

        advance(sum(counts[key] for key in answers))
        try:
            if missing:
                run_requests(ask_all(endpoint, missing, request, concurrency, arrived))
        except FailingServerError as error:
            have = sum(counts[key] for key in answers)
            on = (
                "; the same command goes on from there"
                if kept is not None and not kept.problems
                else ", and none is kept without a cache"
            )
            raise FailingServerError(f"{error}; {have} of {len(asked)} replies have arrived{on}") from error
    return [answers[key] for key in asked]


def served_model(endpoint: Endpoint) -> str:
    """Return the name of the only model that the server lists.

    Raises InputError when it lists none or several, or does not answer.
    """

    async def listed() -> list[str]:
        async with open_client(endpoint) as client:
            await check_reachable(client, endpoint)
            return await model_names(client, endpoint)

    names: list[str] = run_requests(listed())
    if len(names) == 1:
        return names[0]
    found = f"{len(names)} models: {', '.join(names)}" if names else "no model"
    raise InputError(f"{endpoint.base} lists {found}; say which one with {endpoint.named_by}")


def run_requests(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end, also where an event loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work)
    from anyio.from_thread import start_blocking_portal  # comes with openai

    async def begin() -> Any:
        return await work

    with start_blocking_portal() as portal:
        future = portal.start_task_soon(begin)
        try:
            return future.result()
        finally:
            future.cancel()


async def ask_all(
    endpoint: Endpoint,
    missing: Mapping[str, CachedConversation],
    request: Mapping[str, Any],
    concurrency: int,
    arrived: Callable[[str, CachedReply], None],
) -> None:
    """Ask for every missing reply, `concurrency` at a time, and hand each on as it arrives; the first error ends all."""
    async with open_client(endpoint) as client:
        await check_reachable(client, endpoint)
        waiting = iter(missing.items())

        async def work() -> None:
            for key, conversation in waiting:
                arrived(key, await ask(client, endpoint, conversation, request))

        workers = [asyncio.create_task(work()) for _ in range(min(concurrency, len(missing)))]
        try:
            await asyncio.gather(*workers)
        finally:
            for worker in workers:
                worker.cancel()
            await asyncio.gather(*workers, return_exceptions=True)


async def ask(
    client: Any, endpoint: Endpoint, conversation: CachedConversation, request: Mapping[str, Any]
) -> CachedReply:
    """Return the reply to one conversation."""
    import openai

    try:
        completion = await client.chat.completions.create(messages=[*map(dict, conversation)], **request)
        choice = completion.choices[0]
        # A model that was taught to do so puts its refusal into a field of its own.
        text = choice.message.content or getattr(choice.message, "refusal", None) or ""
        tokens = completion.usage.completion_tokens if completion.usage else None
        finish = choice.finish_reason or "unknown"
        if not is_reply(text, finish, tokens):
            raise TypeError("a reply is a text, why it ended is one, and its tokens are a number")
        # Half of a surrogate pair, which JSON can hold, is in no file.
        return CachedReply(text.encode(errors="replace").decode(), finish, tokens)
    except openai.OpenAIError as error:
        raise await explained(error, client, endpoint) from error
    except InputError:
        raise
    # The package hands on what it was given: text that is no JSON, or JSON of another shape.
    except MISSHAPEN as error:
        raise FailingServerError(not_the_protocol(endpoint)) from error


def open_client(endpoint: Endpoint) -> Any:
    """Return an `AsyncOpenAI` client: its own retries with growing pauses, or as long as the server asks to wait.

    Raises InputError without the package, and for a key that cannot be sent.
    """
    require("endpoint", "a model behind a URL")
    import openai

    timeout = openai.Timeout(endpoint.timeout, connect=CONNECT_SECONDS)
    return openai.AsyncOpenAI(
        base_url=endpoint.base,
        api_key=api_key(endpoint.api_key_variable),
        timeout=timeout,
        max_retries=endpoint.retries,
        http_client=limited_client(openai, timeout, endpoint.timeout),
    )


def api_key(variable: str) -> str:
    """Return the key that an environment variable holds, NO_KEY without one.

    Raises InputError for characters that no key has: the HTTP library would quote the whole key in its complaint.
    """
    key = os.environ.get(variable) or NO_KEY
    if "\r" in key or "\n" in key:
        raise InputError(f"the value of the environment variable {variable} has a line end; set it without one")
    if not re.fullmatch("[!-~]+", key):
        raise InputError(
            f"the value of the environment variable {variable} has a space or another character that no key has; copy "
            "it again"
        )
    return key


async def check_reachable(client: Any, endpoint: Endpoint) -> None:
    """Say at once that nothing listens: a request would be repeated for a quarter of a minute first."""
    import openai

    try:
        await asyncio.wait_for(
            client.with_options(max_retries=0, timeout=CONNECT_SECONDS).models.list(), CONNECT_SECONDS
        )
    except openai.APIConnectionError as error:
        # By name, since the package has changed its HTTP library and the names have stayed.
        if type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout"):
            raise InputError(
                f"nothing listens at {endpoint.base}; start the server, or give the URL that it printed"
            ) from error
    except InputError as error:
        if not isinstance(error, FailingServerError):
            raise
    except (openai.OpenAIError, *MISSHAPEN):
        return  # some servers have no list of models: the first request will tell what is wrong, if anything


async def model_names(client: Any, endpoint: Endpoint) -> list[str]:
    """Return the names of the models that the server lists."""
    import openai

    try:
        return [str(model.id) for model in (await client.models.list()).data]
    except openai.NotFoundError as error:
        raise InputError(f"{not_the_protocol(endpoint)} or name the model with {endpoint.named_by}") from error
    except openai.OpenAIError as error:
        raise await explained(error, client, endpoint) from error
    except InputError:
        raise
    except MISSHAPEN as error:
        raise FailingServerError(not_the_protocol(endpoint)) from error


def not_the_protocol(endpoint: Endpoint) -> str:
    """Say that something else listens at the URL."""
    return f"{endpoint.base} does not speak the OpenAI chat protocol; give the URL that the server printed"


async def explained(error: Any, client: Any, endpoint: Endpoint) -> InputError:
    """Return the one line to say for an error of the `openai` package."""
    import openai

    url, variable = endpoint.base, endpoint.api_key_variable
    if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
        how = "does not accept the key in" if os.environ.get(variable) else "wants a key: put it into"
        return InputError(f"{url} {how} the environment variable {variable} (status {error.status_code})")
    if isinstance(error, openai.NotFoundError):
        names = await model_names(client, endpoint)
        return InputError(
            f"{url} does not serve {endpoint.model!r}, it serves {', '.join(names) or 'nothing'}; say which one with {endpoint.named_by}"
        )
    if isinstance(error, openai.APITimeoutError):
        return FailingServerError(f"{url} gave no answer within {endpoint.timeout:g} s, {endpoint.retries + 1} times")
    if isinstance(error.__cause__, FailingServerError):  # as older versions of the package hand it on
        return error.__cause__
    if not isinstance(error, openai.APIStatusError):
        cause = one_line_words(error.__cause__ or error)
        return FailingServerError(f"the connection to {url} broke {endpoint.retries + 1} times ({cause})")
    said = one_line_words(
        error.body.get("message", error.body) if isinstance(error.body, dict) else error.body or error
    )
    said = said.replace(client.api_key, "...") if client.api_key != NO_KEY else said
    if error.status_code >= 500 or error.status_code in (408, 409, 429):
        return FailingServerError(f"{url} keeps failing (status {error.status_code}: {said})")
    if TOO_LONG.search(said):
        return InputError(
            f"a conversation and its reply do not fit into the server's context ({said}); start the server with a "
            "longer context, or ask for shorter replies"
        )
    return RejectedRequestError(f"{url} rejects the request (status {error.status_code}: {said})")


def one_line_words(said: object) -> str:
    """Return a server's message in one line of at most `WORDS` characters."""
    return " ".join(str(said).split())[:WORDS]
