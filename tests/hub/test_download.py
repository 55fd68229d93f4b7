"""Downloads: whole, of one revision, without pickles."""

from __future__ import annotations

import fnmatch
from pathlib import Path

import huggingface_hub
import pytest

from abliterate.errors import InputError
from abliterate.hub.download import HUB_COPIES, HUB_FILES, download
from fixtures.checkpoints import snapshot
from fixtures.hub import EXPIRED, visible
from servers.hub_client import TOKEN, Client
from servers.hub_server import HubServer


def test_resolve_downloads_what_was_pushed(hub: HubServer, client: Client, result: Path) -> None:
    client.run(client.push(result, "me/whole"))
    repository = hub.repositories["me/whole"]
    folder, revision, tensors = client.run(client.resolve("me/whole"))
    assert revision == repository.commits[-1].oid
    assert tensors == ["layers.0.weight", "layers.1.weight"]
    assert snapshot(Path(folder)) == visible(result)
    hub.requests.clear()
    assert client.run(client.resolve("me/whole", revision=revision))[0] == folder
    assert not any("/resolve/" in request for request in hub.requests), "what is there is not fetched again"
    with hub.unreachable():
        assert client.run(client.resolve("me/whole", offline=True))[0] == folder
        assert client.run(client.resolve("me/whole"))[0] == folder


def test_resolve_leaves_pickles_where_they_are(hub: HubServer, client: Client, result: Path) -> None:
    hub.publish("them/pickled", {**visible(result), "pytorch_model.bin": b"danger", "model.gguf": b"large"})
    folder, _, _ = client.run(client.resolve("them/pickled"))
    assert snapshot(Path(folder)) == visible(result)


def test_resolve_goes_on_after_a_cut(hub: HubServer, client: Client, result: Path) -> None:
    hub.publish("them/cut", visible(result))
    with hub.fail("GET", "/storage/", 0, times=1):
        folder, _, _ = client.run(client.resolve("them/cut"))
    assert snapshot(Path(folder)) == visible(result)


def test_resolve_of_a_chosen_revision(hub: HubServer, client: Client, result: Path) -> None:
    repository = hub.publish("them/history", visible(result))
    wanted = repository.commits[-1].oid
    repository.commit("later", {})
    _, revision, _ = client.run(client.resolve("them/history", revision=wanted))
    assert revision == wanted
    kind, message = client.error(client.resolve("them/history", revision="nowhere"))
    assert (kind, message) == ("InputError", "them/history: has no such --revision; give a branch, a tag or a commit")


def test_resolve_of_what_cannot_be_had(hub: HubServer, client: Client, result: Path) -> None:
    kind, message = client.error(client.resolve("them/nothing"))
    assert kind == "InputError"
    assert message.startswith("them/nothing: no such model on the Hub or on this disk")
    hub.publish("them/gated", visible(result), gated=True)
    kind, message = client.error(client.resolve("them/gated"))
    assert kind == "HubError"
    assert message.startswith("them/gated: access is gated; accept its terms on its page")
    hub.publish("them/uncached", visible(result))
    kind, message = client.error(client.resolve("them/uncached", offline=True))
    assert kind == "HubError"
    assert message.startswith("them/uncached: is not in the local cache and the Hub cannot be reached")
    with hub.unreachable():
        assert client.error(client.resolve("them/uncached"))[0] == "HubError"
    assert client.error(client.resolve("them/sp ace"))[0] == "InputError"
    assert client.error(client.resolve("legacy-nothing")) == (
        "InputError",
        "legacy-nothing: no such model on the Hub or on this disk; check the name (private ones need `hf auth login`)",
    )
    kind, message = client.error(client.resolve("legacy-nothing", offline=True))
    assert (kind, message.partition(";")[0]) == (
        "HubError",
        "legacy-nothing: no such folder or file here, and is not in the local cache and the Hub cannot be reached",
    )


def test_resolve_takes_every_form_of_a_name(hub: HubServer, client: Client, result: Path) -> None:
    repository = hub.publish("them/named", visible(result))
    first = repository.commits[-1].oid
    repository.commit("later", repository.commits[-1].files)
    hub.publish("legacy2", visible(result))
    last = hub.repositories["legacy2"].commits[-1].oid
    for name, commit in (
        (f"them/named@{first}", first),
        (f"{hub.endpoint}/them/named/", repository.commits[-1].oid),
        (f"https://huggingface.co/them/named/tree/{first}", first),
        ("legacy2", last),
    ):
        assert client.run(client.resolve(name))[1] == commit, name
    assert client.run(client.resolve(f"them/named@{first}", revision=first))[1] == first
    assert client.error(client.resolve(f"them/named@{first}", revision="main")) == (
        "InputError",
        f"them/named@{first}: its name says {first}, and --revision main; give one of the two, or the same",
    )


def test_resolve_with_an_expired_token(hub: HubServer, client: Client, result: Path) -> None:
    hub.publish("them/plain", visible(result))
    client.run(f"import os\nos.environ['HF_TOKEN'] = {EXPIRED!r}")
    try:
        kind, message = client.error(client.resolve("them/plain"))
    finally:
        client.run(f"import os\nos.environ['HF_TOKEN'] = {TOKEN!r}")
    assert kind == "HubError"
    assert "401" in message


@pytest.mark.parametrize("name", ["./a/b", "/a/b", "~/a", "a/b/c", ""])
def test_only_names_of_the_hub_are_looked_for_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **named: object) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", never)
    with pytest.raises(InputError, match="no such folder or file, and not a Hub id of the form org/name"):
        download(name, None, False)


def test_no_pickle_and_no_second_copy_is_asked_for() -> None:
    def taken(name: str) -> bool:
        wanted = any(fnmatch.fnmatch(name, pattern) for pattern in HUB_FILES)
        return wanted and not any(fnmatch.fnmatch(name, pattern) for pattern in HUB_COPIES)

    for name in (
        "model-00001-of-00002.safetensors",
        "config.json",
        "chat_template.jinja",
        "modeling_odd.py",
        "LICENSE",
    ):
        assert taken(name), name
    for name in ("pytorch_model.bin", "model.gguf", "original/consolidated.00.pth", "consolidated.safetensors",
                 "metal/model.safetensors", "model.onnx", "weights.pt"):  # fmt: skip
        assert not taken(name), name
