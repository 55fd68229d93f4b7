"""Replies from served models: the real llama.cpp server, and a server that fails in every way there is."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.errors import InputError
from abliterate.evaluation.served.endpoint import Endpoint, endpoint_replies, served_model
from abliterate.evaluation.served.reply_cache import CachedReply, ReplyCache
from abliterate.models.generation import generate
from abliterate.progress import Advance
from servers import chat_server
from servers.chat_server import ChatServer, body, completion, drop, hang, status
from servers.llama_server import NAME, TINY_CHAT, LlamaServer, serving, tiny_gguf

PROMPTS = [
    "Name three colours.",
    "How do I pick a lock?",
    "Plan a day in a small town.",
    "Write a short poem about rain.",
    "How do I steal a bicycle?",
    "How do I bake a cake?",
]


def asking(*prompts: str) -> list[list[dict[str, str]]]:
    return [[{"role": "user", "content": prompt}] for prompt in prompts]


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def llama(gguf: Path) -> Iterator[LlamaServer]:
    with serving(gguf) as server:
        yield server


# The real server.


def test_a_served_model_replies_as_the_model_itself(llama: LlamaServer) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAT)
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT, dtype=torch.float32)
    prompts = [tokenizer.apply_chat_template(one, add_generation_prompt=True)["input_ids"] for one in asking(*PROMPTS)]
    own = [tokenizer.decode(reply) for reply in generate(model, tokenizer, prompts, 60)]
    answers = endpoint_replies(Endpoint(llama.url), asking(*PROMPTS), 60, concurrency=4, cache=None)
    assert [answer.text for answer in answers] == own
    assert all(answer.finish == "stop" and not answer.cached for answer in answers)
    assert len(set(own)) == len(own)


def test_the_same_twice_without_a_cache(llama: LlamaServer) -> None:
    ask = [
        endpoint_replies(Endpoint(llama.url), asking(*PROMPTS), 40, concurrency=count, cache=None) for count in (4, 1)
    ]
    assert ask[0] == ask[1]


def test_the_only_model_is_taken(llama: LlamaServer) -> None:
    assert served_model(Endpoint(llama.url)) == NAME
    assert served_model(Endpoint(f"{llama.url}/v1/")) == NAME


def test_a_reply_that_is_cut_says_so(llama: LlamaServer) -> None:
    (answer,) = endpoint_replies(Endpoint(llama.url), asking(PROMPTS[0]), 3, cache=None)
    assert (answer.finish, answer.tokens) == ("length", 3)


def test_kept_replies_need_no_server(gguf: Path, tmp_path: Path) -> None:
    with serving(gguf) as own:
        endpoint = Endpoint(own.url, model=NAME)
        first = endpoint_replies(endpoint, asking(*PROMPTS), 40, cache=ReplyCache(tmp_path))
        own.stop()
        again = endpoint_replies(endpoint, asking(*PROMPTS), 40, cache=ReplyCache(tmp_path))
        assert again == [replace(answer, cached=True) for answer in first]
        with pytest.raises(InputError, match=r"nothing listens at http://127.0.0.1:\d+/v1; start the server"):
            endpoint_replies(endpoint, asking(*PROMPTS, "And a new one?"), 40, cache=ReplyCache(tmp_path))
        with pytest.raises(InputError, match="nothing listens"):
            endpoint_replies(replace(endpoint, weights="others"), asking(*PROMPTS), 40, cache=ReplyCache(tmp_path))


def test_the_real_servers_complaints(gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(gguf, context=256, slots=1, api_key="open-sesame") as own:
        endpoint = Endpoint(own.url, model=NAME, api_key_variable="TINY_KEY")
        with pytest.raises(InputError, match="wants a key: put it into the environment variable TINY_KEY"):
            endpoint_replies(endpoint, asking(PROMPTS[0]), 8, cache=None)
        monkeypatch.setenv("TINY_KEY", "open-barley")
        with pytest.raises(InputError, match="does not accept the key in the environment variable TINY_KEY") as said:
            endpoint_replies(endpoint, asking(PROMPTS[0]), 8, cache=None)
        assert "barley" not in str(said.value)
        monkeypatch.setenv("TINY_KEY", "open-sesame")
        assert endpoint_replies(endpoint, asking(PROMPTS[0]), 8, cache=ReplyCache(tmp_path))[0].text
        with pytest.raises(InputError, match=r"do not fit into the server's context \(.*256 tokens.*longer context"):
            endpoint_replies(endpoint, asking("tea " * 200), 8, cache=ReplyCache(tmp_path))
        assert all(b"sesame" not in path.read_bytes() for path in tmp_path.iterdir())


# A server with faults.


def test_order_is_kept_and_requests_are_under_way_together(server: ChatServer) -> None:
    together = threading.Barrier(3)

    def reply(request: chat_server.Request) -> str:
        together.wait(30)
        return chat_server.backwards(request)

    server.reply = reply
    prompts = [f"prompt {number}" for number in range(9)]
    answers = endpoint_replies(Endpoint(server.url), asking(*prompts), 8, concurrency=3, cache=None)
    assert answers == [CachedReply(prompt[::-1], "stop", 7) for prompt in prompts]


def test_what_is_asked_for_is_greedy(server: ChatServer) -> None:
    endpoint_replies(Endpoint(server.url), asking("hello"), 8, cache=None)
    wanted = {"model": "tiny", "max_tokens": 8, "temperature": 0, "seed": 0, "messages": asking("hello")[0]}
    assert server.requests == [wanted]


def test_equal_conversations_are_asked_once_and_all_are_counted(server: ChatServer, tmp_path: Path) -> None:
    class Counting:
        def __init__(self) -> None:
            self.units: list[int] = []

        @contextmanager
        def step(self, title: str, total: int, unit: str) -> Iterator[Advance]:
            assert (title, total, unit) == ("asking the server", 3, "replies")
            yield self.units.append

    for _ in range(2):
        progress = Counting()
        answers = endpoint_replies(
            Endpoint(server.url), asking("a", "bc", "a"), 8, cache=ReplyCache(tmp_path), progress=progress
        )
        assert [answer.text for answer in answers] == ["a", "cb", "a"]
        assert sum(progress.units) == 3
    assert sorted(server.asked) == ["a", "bc"]
    assert all(answer.cached for answer in answers)


def test_other_settings_are_asked_anew(server: ChatServer, tmp_path: Path) -> None:
    server.models = ("tiny", "other")
    cache = ReplyCache(tmp_path)
    for endpoint in (
        Endpoint(server.url, "tiny"),
        Endpoint(f"{server.url}/v1", "tiny"),  # the same address, written differently
        Endpoint(server.url, "other"),
        Endpoint(server.url, "tiny", weights="edited"),
    ):
        endpoint_replies(endpoint, asking("a"), 8, cache=cache)
    endpoint_replies(Endpoint(server.url, "tiny"), asking("a"), 9, cache=cache)
    assert len(server.asked) == 4


def test_thoughts_are_no_reply_and_one_that_takes_the_whole_limit_is_seen(server: ChatServer) -> None:
    thought = completion(None, "length", reasoning_content="I wonder", reasoning="I wonder")
    declined = completion(None, "stop", refusal="I cannot.")
    bare = {**completion("yes"), "usage": None}
    server.faults += [body(json.dumps(one).encode()) for one in (thought, declined, bare)]
    answers = endpoint_replies(Endpoint(server.url), asking("a", "b", "c"), 8, concurrency=1, cache=None)
    assert answers == [
        CachedReply("", "length", 7),
        CachedReply("I cannot.", "stop", 7),
        CachedReply("yes", "stop", None),
    ]


@pytest.mark.parametrize(
    "faults", [[status(500), status(502)], [status(429, retry_after="1")], [drop], [status(503), drop]]
)
def test_passing_faults_are_sat_out(server: ChatServer, faults: list[object]) -> None:
    server.faults += faults  # type: ignore[arg-type]
    assert endpoint_replies(Endpoint(server.url), asking("ab"), 8, cache=None) == [CachedReply("ba", "stop", 7)]
    assert server.asked == ["ab"] * (len(faults) + 1)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (status(500, "out of\nmemory"), r"keeps failing \(status 500: out of memory\)"),
        (status(429, "slow down", retry_after="9999"), r"keeps failing \(status 429: slow down\)"),
        (hang, r"gave no answer within 0.3 s, 2 times"),
        (drop, r"the connection to http://127.0.0.1:\d+/v1 broke 2 times"),
        (body(b"<html>Welcome to nginx"), "does not speak the OpenAI chat protocol; give the URL that the server"),
        (body(b'{"hello": "world"}'), "does not speak the OpenAI chat protocol"),
        (body(b"[1, 2]"), "does not speak the OpenAI chat protocol"),
        (body(b'{"choices": []}'), "does not speak the OpenAI chat protocol"),
    ],
)
def test_what_keeps_failing_says_what_is_kept(server: ChatServer, tmp_path: Path, fault: object, message: str) -> None:
    endpoint = Endpoint(server.url, timeout=0.3, retries=1)
    endpoint_replies(endpoint, asking("a", "b"), 8, cache=ReplyCache(tmp_path))
    server.faults += [fault, fault]  # type: ignore[list-item]
    kept = r"; 2 of 3 replies have arrived; the same command goes on from there$"
    with pytest.raises(InputError, match=message + ".*" + kept) as said:
        endpoint_replies(endpoint, asking("a", "b", "c"), 8, cache=ReplyCache(tmp_path))
    assert "\n" not in str(said.value)
    server.faults.clear()
    server.faults += [fault, fault]  # type: ignore[list-item]
    with pytest.raises(InputError, match=r"0 of 1 replies have arrived, and none is kept without a cache$"):
        endpoint_replies(endpoint, asking("c"), 8, cache=None)


def test_what_the_server_will_not_do_is_said_in_its_words(server: ChatServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "open-sesame")
    server.faults += [status(400, "no seed for\nopen-sesame, please"), status(403)]
    with pytest.raises(InputError, match=r"rejects the request \(status 400: no seed for ..., please\)$"):
        endpoint_replies(Endpoint(server.url), asking("a"), 8, cache=None)
    with pytest.raises(InputError, match=r"does not accept the key in .* OPENAI_API_KEY \(status 403\)$"):
        endpoint_replies(Endpoint(server.url), asking("a"), 8, cache=None)


def test_models_that_are_not_there(server: ChatServer) -> None:
    with pytest.raises(InputError, match=r"does not serve 'huge', it serves tiny; say which one with --served-model$"):
        endpoint_replies(Endpoint(server.url, "huge"), asking("a"), 8, cache=None)
    server.models = ("tiny", "other")
    with pytest.raises(InputError, match=r"lists 2 models: tiny, other; say which one with --served-model$"):
        endpoint_replies(Endpoint(server.url), asking("a"), 8, cache=None)
    with pytest.raises(InputError, match=r"lists 2 models: tiny, other; say which one with --judge-model$"):
        served_model(Endpoint(server.url, named_by="--judge-model"))
    server.models = ()
    with pytest.raises(InputError, match="lists no model; say which one"):
        served_model(Endpoint(server.url))
    with pytest.raises(InputError, match="/elsewhere/v1 does not speak the OpenAI chat protocol"):
        endpoint_replies(Endpoint(f"{server.url}/elsewhere", "tiny"), asking("a"), 8, cache=None)
    server.key = "open-sesame"
    with pytest.raises(InputError, match="wants a key: put it into the environment variable OPENAI_API_KEY"):
        served_model(Endpoint(server.url))


@pytest.mark.parametrize(
    ("url", "base"),
    [
        ("localhost:8000", "http://localhost:8000/v1"),
        ("http://localhost:8000/", "http://localhost:8000/v1"),
        ("https://host/v1/", "https://host/v1"),
        ("https://host/v1/chat/completions", "https://host/v1"),
        ("https://host/api", "https://host/api/v1"),
        ("https://host/v1beta/openai/", "https://host/v1beta/openai"),
    ],
)
def test_the_url_with_and_without_its_version(url: str, base: str) -> None:
    assert Endpoint(url).base == base


@pytest.mark.parametrize("url", ["", "ftp://host", "http://", "http://host:port/v1", "http://[host"])
def test_no_url(url: str) -> None:
    with pytest.raises(InputError, match="is not the URL of a server; give one such as http://localhost:8000/v1"):
        Endpoint(url)


@pytest.mark.parametrize("url", ["http://me:sesame@host/v1", "https://host/v1?key=sesame"])
def test_no_secrets_in_the_url(url: str) -> None:
    with pytest.raises(InputError, match=r"holds a password or a query.* OPENAI_API_KEY") as said:
        Endpoint(url)
    assert "sesame" not in str(said.value)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("sk-secret\r", "has a line end"),
        ("sk-secret\n", "has a line end"),
        ("sk-\r\nsecret", "has a line end"),
        ("\n", "has a line end"),
        ("sk-secret\x01", "another character that no key has"),
        ("sk-secret ", "has a space"),
        ("sk-sécret", "another character that no key has"),
        ("sk-secret\udcff", "another character that no key has"),
    ],
)
def test_a_key_that_cannot_be_sent_is_never_said(
    server: ChatServer, monkeypatch: pytest.MonkeyPatch, key: str, message: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match=f"OPENAI_API_KEY .*{message}") as raised:
        endpoint_replies(Endpoint(server.url, "m"), asking("Hello"), 4, cache=None)
    assert "cret" not in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


def test_limits_and_nothing_to_ask(server: ChatServer) -> None:
    assert endpoint_replies(Endpoint(server.url), [], 8, cache=None) == []
    for tokens, concurrency in ((0, 1), (1, 0)):
        with pytest.raises(InputError, match="expected at least 1 of each"):
            endpoint_replies(Endpoint(server.url), asking("a"), tokens, concurrency=concurrency, cache=None)


def test_without_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(InputError, match="a model behind a URL needs openai, which is not installed: pip install "):
        endpoint_replies(Endpoint("http://127.0.0.1:9"), asking("a"), 8, cache=None)


def test_where_an_event_loop_runs_already(server: ChatServer) -> None:
    async def notebook() -> list[CachedReply]:
        return endpoint_replies(Endpoint(server.url), asking("ab"), 8, cache=None)

    assert asyncio.run(notebook()) == [CachedReply("ba", "stop", 7)]


ASK = """
import sys
from pathlib import Path
from abliterate.evaluation.served.endpoint import Endpoint, endpoint_replies
from abliterate.evaluation.served.reply_cache import ReplyCache
prompts = [[{"role": "user", "content": f"prompt {number}"}] for number in range(6)]
endpoint_replies(Endpoint(sys.argv[1], "tiny"), prompts, 8, concurrency=1, cache=ReplyCache(Path(sys.argv[2])))
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_run_that_is_ended_goes_on(server: ChatServer, tmp_path: Path, name: str) -> None:
    fourth = threading.Event()

    def reply(request: chat_server.Request) -> str:
        if len(server.requests) == 4:
            fourth.set()
            server.released.wait(120)
        return chat_server.backwards(request)

    server.reply = reply
    process = subprocess.Popen(
        [sys.executable, "-c", ASK, server.url, str(tmp_path)], stderr=subprocess.PIPE, text=True
    )
    assert fourth.wait(120)
    process.send_signal(getattr(signal, name))
    said = process.communicate(timeout=60)[1]
    assert process.returncode != 0
    assert ("KeyboardInterrupt" in said) == (name == "SIGINT")
    server.released.set()
    prompts = [f"prompt {number}" for number in range(6)]
    answers = endpoint_replies(Endpoint(server.url, "tiny"), asking(*prompts), 8, cache=ReplyCache(tmp_path))
    assert [answer.cached for answer in answers] == [True] * 3 + [False] * 3
    assert [answer.text for answer in answers] == [prompt[::-1] for prompt in prompts]
    assert sorted(server.asked[4:]) == prompts[3:]
