"""Push and download against a real server on this machine. One child process runs the code under test: huggingface_hub
reads its environment when it is imported, and the tests' own process is kept off the Hub."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fixtures.checkpoints import snapshot, write_checkpoint
from servers.hub_client import TOKEN, Client
from servers.hub_server import HubServer

EXPIRED = "hf_" + "ExpiredLongAgoXY" * 2
READER = "hf_" + "MayReadButNotWri" * 2


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.account(TOKEN, "me", organisations=("team",))
        server.account(READER, "me", role="read")
        yield server


@pytest.fixture(scope="module")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    one = Client(hub, tmp_path_factory.mktemp("client"))
    yield one
    one.close()


def make_result(folder: Path, shards: int = 2, seed: int = 0) -> Path:
    """A folder as a finished run leaves it, with what must not travel beside."""
    torch.manual_seed(seed)
    write_checkpoint(folder, *({f"layers.{number}.weight": torch.randn(300, 256)} for number in range(shards)))
    (folder / "abliterate.json").write_text('{"abliterate": "0.1.0"}')
    (folder / "README.md").write_text("---\nlicense: mit\n---\n\n# Edited\n")
    (folder / "templates").mkdir()
    (folder / "templates" / "tool.jinja").write_text("{{ messages }}")
    (folder / ".cache").mkdir()
    (folder / ".cache" / "journal.json").write_text("{}")
    (folder / ".note").write_text("mine")
    return folder


@pytest.fixture
def result(tmp_path: Path) -> Path:
    return make_result(tmp_path / "edited")


def visible(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in snapshot(folder).items() if not name.startswith(".")}


def test_hub_alone_does_not_load_transformers(client: Client) -> None:
    assert client.run("import abliterate.hub.push\nvalue = 'transformers' in sys.modules") is False


def test_push_sends_all_bytes_in_one_commit_to_a_private_repository(
    hub: HubServer, client: Client, result: Path
) -> None:
    before = snapshot(result)
    assert client.run(client.push(result, "me/fresh")) == f"{hub.endpoint}/me/fresh"
    repository = hub.repositories["me/fresh"]
    attributes = repository.contents.pop(".gitattributes")
    assert attributes
    assert {name: data for name, data in repository.contents.items() if name != ".gitattributes"} == visible(result)
    assert repository.commits[-1].files["model-00001-of-00002.safetensors"].large
    assert not repository.commits[-1].files["config.json"].large
    assert repository.visibility == "private"
    assert [commit.message for commit in repository.commits[1:]] == ["Upload an edit with abliterate"]
    assert snapshot(result) == before


def test_public_only_when_asked(hub: HubServer, client: Client, result: Path) -> None:
    client.run(client.push(result, "team/open", public=True))
    assert hub.repositories["team/open"].visibility == "public"


def test_progress_counts_every_byte(client: Client, result: Path) -> None:
    counted = client.run(
        "from contextlib import contextmanager\n"
        "seen = []\n"
        "class Count:\n"
        "    @contextmanager\n"
        "    def step(self, title, total, unit):\n"
        "        seen.append([title, total, unit, 0])\n"
        "        def advance(count): seen[-1][3] += count\n"
        "        yield advance\n"
        "from abliterate.hub.push import push\n"
        f"push(Path({str(result)!r}), 'me/counted', progress=Count())\n"
        "value = seen"
    )
    total = sum(map(len, visible(result).values()))
    assert counted == [["upload to me/counted", total, "B", total]]


def test_second_push_replaces_the_first_and_leaves_no_stale_weights(
    hub: HubServer, client: Client, result: Path, tmp_path: Path
) -> None:
    client.run(client.push(result, "me/twice"))
    repository = hub.repositories["me/twice"]
    client.run(client.push(result, "me/twice", public=True))
    assert len(repository.commits) == 2, "nothing changed: no commit"
    other = make_result(tmp_path / "other", shards=1, seed=1)
    client.run(client.push(other, "me/twice", public=True))
    assert len(repository.commits) == 3
    assert {name: data for name, data in repository.contents.items() if name != ".gitattributes"} == visible(other)
    assert repository.visibility == "private", "what is there keeps its visibility"


def test_push_never_mixes_with_another_model(hub: HubServer, client: Client, result: Path) -> None:
    repository = hub.publish("me/original", {"config.json": b"{}", "model.safetensors": b"theirs"})
    for call in (client.push(result, "me/original"), client.check("me/original")):
        kind, message = client.error(call)
        assert kind == "InputError"
        assert "holds weights that abliterate did not write (model.safetensors); choose another name" in message
    assert len(repository.commits) == 2


RECORDS = "abliterate.json or hardened.json or healed.json"


@pytest.mark.parametrize("missing", ["config.json", "README.md", "abliterate.json", "*.safetensors"])
def test_push_refuses_what_is_not_finished(hub: HubServer, client: Client, result: Path, missing: str) -> None:
    for path in result.glob(missing):
        path.unlink()
    requests = len(hub.requests)
    kind, message = client.error(client.push(result, "me/never"))
    assert (kind, len(hub.requests)) == ("InputError", requests)
    named = RECORDS if missing == "abliterate.json" else missing
    assert message == f"{result}: is not a finished checkpoint: {named} missing; give a run's --out"


@pytest.fixture
def adapter(result: Path, tmp_path: Path) -> Path:
    """An adapter's folder, with the records of the edit; what is in its weights does not matter here."""
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name in ("README.md", "abliterate.json"):
        (folder / name).write_bytes((result / name).read_bytes())
    (folder / "adapter_config.json").write_text("{}")
    save_file({"lora_A.weight": torch.ones(1, 8)}, folder / "adapter_model.safetensors")
    (folder / "observations.json").write_text("what the model replied stays here")
    return folder


def test_an_adapter_is_pushed_whole_and_takes_the_place_of_a_checkpoint(
    hub: HubServer, client: Client, result: Path, adapter: Path
) -> None:
    client.run(client.push(result, "me/both"))
    client.run(client.push(adapter, "me/both"))
    held = hub.repositories["me/both"]
    sent = {name: data for name, data in visible(adapter).items() if name != "observations.json"}
    weights = {name for name in held.contents if name.endswith(".safetensors")}
    assert weights - {"directions.safetensors"} == {"adapter_model.safetensors"}
    assert {name: held.contents[name] for name in sent} == sent
    assert "observations.json" not in held.contents
    assert held.commits[-1].files["adapter_model.safetensors"].large


@pytest.mark.parametrize("missing", ["adapter_model.safetensors", "README.md", "abliterate.json"])
def test_push_refuses_an_adapter_that_is_not_finished(client: Client, adapter: Path, missing: str) -> None:
    (adapter / missing).unlink()
    kind, message = client.error(client.push(adapter, "me/never"))
    assert kind == "InputError"
    assert "is not a finished adapter: " + (RECORDS if missing == "abliterate.json" else missing) in message


def test_push_refuses_an_adapter_that_is_damaged(client: Client, adapter: Path) -> None:
    path = adapter / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:20])
    kind, message = client.error(client.push(adapter, "me/never"))
    assert kind == "CheckpointError"
    assert "adapter_model.safetensors: cannot be read" in message


def rename(folder: Path, name: str) -> Path:
    """Make a result the kind that the record `name` tells of."""
    (folder / "abliterate.json").rename(folder / name)
    return folder


def test_what_training_wrote_is_pushed_in_the_place_of_the_edit(
    hub: HubServer, client: Client, tmp_path: Path, adapter: Path
) -> None:
    """Each under its own words; the record of what was there before would speak of other weights, so it goes."""
    client.run(client.push(make_result(tmp_path / "first"), "me/trained"))
    held = hub.repositories["me/trained"]
    healed = rename(make_result(tmp_path / "healed", shards=1, seed=1), "healed.json")
    client.run(client.check("me/trained"))
    client.run(client.push(healed, "me/trained"))
    assert {name: data for name, data in held.contents.items() if name != ".gitattributes"} == visible(healed)
    assert held.commits[-1].message == "Upload a healed model with abliterate"
    hardened = rename(adapter, "hardened.json")
    client.run(client.push(hardened, "me/trained"))
    assert held.commits[-1].message == "Upload a hardening adapter with abliterate"
    names = set(held.contents)
    assert {"hardened.json", "adapter_config.json", "adapter_model.safetensors", "README.md"} <= names
    assert not names & {"abliterate.json", "healed.json", "model.safetensors", "observations.json"}
    client.run(client.push(healed, "me/trained"))
    assert not set(held.contents) & {"hardened.json", "adapter_model.safetensors"}


@pytest.mark.parametrize(("record", "kind"), [("healed.json", "checkpoint"), ("hardened.json", "adapter")])
@pytest.mark.parametrize("missing", ["README.md", "the record"])
def test_push_refuses_what_training_has_not_finished(
    hub: HubServer, client: Client, tmp_path: Path, adapter: Path, record: str, kind: str, missing: str
) -> None:
    folder = rename(adapter if kind == "adapter" else make_result(tmp_path / "healed"), record)
    (folder / (record if missing == "the record" else missing)).unlink()
    requests = len(hub.requests)
    error, message = client.error(client.push(folder, "me/never"))
    assert (error, len(hub.requests)) == ("InputError", requests)
    named = RECORDS if missing == "the record" else missing
    assert message == f"{folder}: is not a finished {kind}: {named} missing; give a run's --out"


def test_push_refuses_other_folders(hub: HubServer, client: Client, result: Path, tmp_path: Path) -> None:
    requests = len(hub.requests)
    assert "no such folder" in client.error(client.push(tmp_path / "nothing", "me/never"))[1]
    partial = result.rename(tmp_path / "edited.partial")
    assert "unfinished run" in client.error(client.push(partial, "me/never"))[1]
    whole = partial.rename(tmp_path / "edited")
    (whole / ".abliterate-journal.json").write_text("{}")
    assert "unfinished run" in client.error(client.push(whole, "me/never"))[1]
    (whole / ".abliterate-journal.json").unlink()
    shard = whole / "model-00001-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-100])
    assert client.error(client.push(whole, "me/never"))[0] == "CheckpointError"
    assert len(hub.requests) == requests


@pytest.mark.parametrize("name", ["fresh", "a/b/c", "me/", "me/sp ace", "me/two--dashes", "", "me/a\nb"])
def test_bad_names_fail_before_the_hub_is_asked(hub: HubServer, client: Client, result: Path, name: str) -> None:
    requests = len(hub.requests)
    for call in (client.push(result, name), client.check(name)):
        kind, message = client.error(call)
        assert kind == "InputError"
        assert message.endswith("give one of the form org/name")
    assert len(hub.requests) == requests


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


def test_check_push_makes_nothing(hub: HubServer, client: Client) -> None:
    before = len(hub.repositories)
    client.run(client.check("me/later"))
    client.run(client.check("Team/later"))
    client.run(client.check("me/fresh"))
    assert len(hub.repositories) == before


def failed(client: Client, result: Path, repository: str, what: str) -> None:
    """A push fails with the words `what`, leaves the folder as it was, and says how to go on."""
    before = snapshot(result)
    kind, message = client.error(client.push(result, repository, public=True))
    assert kind == "HubError"
    assert what in message
    assert message.endswith(
        f"the local result in {result} is whole; retry with: abliterate push {result} {repository} --public"
    )
    assert snapshot(result) == before


@pytest.mark.parametrize(("method", "part"), [("POST", "/commit/"), ("PUT", "/storage/"), ("POST", "/repos/create")])
def test_a_push_that_fails_midway_can_be_retried(
    hub: HubServer, client: Client, tmp_path: Path, method: str, part: str
) -> None:
    result = make_result(tmp_path / "edited", seed=sum(map(ord, part)))
    name = f"me/fails-at-{method.lower()}-{len(part)}"
    with hub.fail(method, part, 500):
        failed(client, result, name, "the Hub answered 500: Internal Error - We're working hard")
    assert name not in hub.repositories or len(hub.repositories[name].commits) == 1, "all or nothing"
    client.run(client.push(result, name))
    assert {key: data for key, data in hub.repositories[name].contents.items() if key != ".gitattributes"} == visible(
        result
    )


def test_a_passing_fault_is_retried_at_once(hub: HubServer, client: Client, tmp_path: Path) -> None:
    with hub.fail("PUT", "/storage/", 503, times=1):
        client.run(client.push(make_result(tmp_path / "edited", seed=5), "me/passing"))
    assert len(hub.repositories["me/passing"].commits) == 2


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


def test_files_that_the_repository_ignores_are_missed(hub: HubServer, client: Client, result: Path) -> None:
    client.run(client.push(result, "me/ignoring"))
    hub.repositories["me/ignoring"].ignored = ("tokenizer.json",)
    (result / "tokenizer.json").write_text('{"changed": 1}')
    kind, message = client.error(client.push(result, "me/ignoring"))
    assert (kind, message) == (
        "HubError",
        "me/ignoring: tokenizer.json did not arrive; see if its .gitignore keeps files out",
    )


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
    assert client.error(client.resolve("nothing-here"))[0] == "InputError"


def test_resolve_with_an_expired_token(hub: HubServer, client: Client, result: Path) -> None:
    hub.publish("them/plain", visible(result))
    client.run(f"import os\nos.environ['HF_TOKEN'] = {EXPIRED!r}")
    try:
        kind, message = client.error(client.resolve("them/plain"))
    finally:
        client.run(f"import os\nos.environ['HF_TOKEN'] = {TOKEN!r}")
    assert kind == "HubError"
    assert "401" in message


def test_no_token_was_ever_said(client: Client) -> None:
    """Runs last: looks at all that the child process wrote, errors included."""
    said = client.said.read_text() + "".join(client.answers)
    assert client.answers
    assert not re.search("|".join((TOKEN, EXPIRED, READER)), said)
    assert "HTTP Error" not in said, "huggingface_hub's notes on retries are kept from the user of push"
