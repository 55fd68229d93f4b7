"""What a model behind a server says to the report prompts: replies only, since distributions stay on the server."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from abliterate.evaluation.observation import Reply
from abliterate.evaluation.served.endpoint import Endpoint, endpoint_replies
from abliterate.evaluation.served.reply_cache import ReplyCache
from abliterate.progress import SILENT, Progress


def served_replies(
    endpoint: Endpoint,
    sets: Mapping[str, Sequence[str]],
    max_new_tokens: int,
    *,
    system: str | None = None,
    concurrency: int = 8,
    cache: ReplyCache | None = None,
    progress: Progress = SILENT,
) -> tuple[dict[str, tuple[Reply, ...]], int]:
    """Return the replies to each set of prompts, and how many of them came from the cache.

    The server applies the chat template. Raises InputError as `endpoint.replies`.
    """
    before = [{"role": "system", "content": system}] if system is not None else []
    conversations = [[*before, {"role": "user", "content": prompt}] for prompts in sets.values() for prompt in prompts]
    answers = endpoint_replies(
        endpoint, conversations, max_new_tokens, concurrency=concurrency, cache=cache, progress=progress
    )
    given = iter(answers)
    found = {
        name: tuple(Reply(prompt, (), (one := next(given)).text, True, one.tokens) for prompt in prompts)
        for name, prompts in sets.items()
    }
    return found, sum(answer.cached for answer in answers)
