"""Push and download against a real server on this machine. One child process runs the code under test: huggingface_hub
reads its environment when it is imported, and the tests' own process is kept off the Hub."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from abliterate.errors import CheckpointError, HubError, InputError
from abliterate.hub.push import (
    check_arrived,
    check_name,
    check_rights,
    find_token,
    finished_files,
    old_result,
    retry_command,
)
from fixtures.checkpoints import snapshot
from fixtures.folders import PYTHONPATH
from fixtures.hub import EXPIRED, READER, failed, make_result, visible
from servers.hub_client import TOKEN, Client
from servers.hub_server import HubServer


def test_hub_alone_does_not_load_transformers() -> None:
    code = "import sys, abliterate.hub.push; sys.exit('transformers' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": PYTHONPATH}
    assert subprocess.run([sys.executable, "-c", code], env=environment, check=False).returncode == 0


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


def test_a_message_of_ones_own(hub: HubServer, client: Client, result: Path) -> None:
    client.run(client.push(result, "me/told", message="An edit of 15"))
    assert [commit.message for commit in hub.repositories["me/told"].commits[1:]] == ["An edit of 15"]


def test_a_push_to_a_branch_leaves_main_alone(hub: HubServer, client: Client, result: Path) -> None:
    client.run(client.push(result, "me/branched"))
    repository = hub.repositories["me/branched"]
    main = repository.commits[-1]
    (result / "README.md").write_text("---\ntags: [x]\n---\nanother card\n")
    for _ in range(2):  # the branch is made by the first, and there for the second
        page = client.run(client.push(result, "me/branched", revision="try/2"))
        assert page == f"{hub.endpoint}/me/branched/tree/try/2"
    assert repository.commits[-1] is main
    assert repository.branches["try/2"].files["README.md"].content == (result / "README.md").read_bytes()


def test_a_pull_request_leaves_main_alone(hub: HubServer, client: Client, result: Path) -> None:
    client.run(client.push(result, "me/asked"))
    repository = hub.repositories["me/asked"]
    main = repository.commits[-1]
    (result / "README.md").write_text("---\ntags: [x]\n---\nanother card\n")
    assert client.run(client.push(result, "me/asked", create_pr=True)) == f"{hub.endpoint}/me/asked/discussions/1"
    assert repository.commits[-1] is main
    assert set(repository.branches) == {"refs/pr/1"}
    kind, message = client.error(client.push(result, "me/asked", create_pr=True, revision="nowhere"))
    assert (kind, message) == (
        "InputError",
        "me/asked: has no branch nowhere to open a pull request to; leave --revision or --create-pr away",
    )


def test_the_command_that_pushes_again_says_the_same(tmp_path: Path) -> None:
    assert retry_command(tmp_path, "me/x", True, "two words", True, "b") == (
        f"abliterate push {tmp_path} me/x --public --commit-message 'two words' --create-pr --revision b"
    )
    assert retry_command(tmp_path, "me/x", False, None, False, None) == f"abliterate push {tmp_path} me/x"


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


@pytest.mark.parametrize("path", ["/home/me/model", "C:\\\\models\\\\mine"])
def test_push_refuses_an_adapter_that_names_a_path_of_this_machine(adapter: Path, path: str) -> None:
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps({"base_model_name_or_path": path}))
    with pytest.raises(InputError, match="names its model by a path of this machine; write it without --keep-paths"):
        finished_files(adapter)
    config.write_text(json.dumps({"base_model_name_or_path": "org/name"}))
    assert "adapter_config.json" in finished_files(adapter)
    config.write_text("{")
    with pytest.raises(CheckpointError, match=r"adapter_config\.json: cannot be read"):
        finished_files(adapter)


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


def test_check_push_makes_nothing(hub: HubServer, client: Client) -> None:
    before = len(hub.repositories)
    client.run(client.check("me/later"))
    client.run(client.check("Team/later"))
    client.run(client.check("me/fresh"))
    assert len(hub.repositories) == before


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


def test_files_that_the_repository_ignores_are_missed(hub: HubServer, client: Client, result: Path) -> None:
    client.run(client.push(result, "me/ignoring"))
    hub.repositories["me/ignoring"].ignored = ("tokenizer.json",)
    (result / "tokenizer.json").write_text('{"changed": 1}')
    kind, message = client.error(client.push(result, "me/ignoring"))
    assert (kind, message) == (
        "HubError",
        "me/ignoring: tokenizer.json did not arrive; see if its .gitignore keeps files out",
    )


def test_no_token_was_ever_said(client: Client) -> None:
    """Runs last: looks at all that the child process wrote, errors included."""
    said = client.said.read_text() + "".join(client.answers)
    assert client.answers
    assert not re.search("|".join((TOKEN, EXPIRED, READER)), said)
    assert "HTTP Error" not in said, "huggingface_hub's notes on retries are kept from the user of push"


@pytest.mark.parametrize("name", ["", "one", "a/b/c", "a b/c", "me/x..y", "/x", "me/"])
def test_only_full_names_are_names(name: str) -> None:
    check_name("me/edited")
    with pytest.raises(InputError, match="give one of the form org/name"):
        check_name(name)


def test_what_a_token_may_write() -> None:
    def identity(role: str, *organisations: str) -> dict[str, object]:
        return {"name": "Me", "orgs": [{"name": one} for one in organisations], "auth": {"accessToken": {"role": role}}}

    check_rights("me/x", identity("write"))
    check_rights("team/x", identity("write", "Team"))
    check_rights("stranger/x", identity("fineGrained"))  # which may be shown fewer than it can write to
    with pytest.raises(HubError, match="the token may only read"):
        check_rights("me/x", identity("read"))
    with pytest.raises(HubError, match="the token writes to Me and team, not to stranger"):
        check_rights("stranger/x", identity("write", "team"))
    assert find_token(" abc\n") == "abc"
    with pytest.raises(HubError, match="holds characters that no token has") as caught:
        find_token("a b")
    assert "a b" not in str(caught.value)


def test_only_what_abliterate_wrote_gives_way() -> None:
    ours = {"model.safetensors": 3, "abliterate.json": 1, "README.md": 1, "notes/model.safetensors": 2}
    assert old_result("me/x", ours) == {"model.safetensors", "abliterate.json"}
    assert old_result("me/x", {"README.md": 1}) == set()
    options = "abliterate.toml"
    assert old_result("me/x", {**ours, options: 1}) == {"model.safetensors", "abliterate.json", options}
    assert old_result("me/x", {options: 1}) == set()  # which may be anybody's
    with pytest.raises(InputError, match=r"me/x: holds weights that abliterate did not write \(model\.safetensors\)"):
        old_result("me/x", {name: size for name, size in ours.items() if name != "abliterate.json"})


def test_what_did_not_arrive_is_missed() -> None:
    check_arrived("me/x", {"a": 1}, {"a": 1, "b": 2})
    with pytest.raises(HubError, match="me/x: a, c did not arrive"):
        check_arrived("me/x", {"a": 1, "b": 2, "c": 0}, {"a": 2, "b": 2})


@pytest.mark.parametrize("name", ["notes.txt", "docs/notes.txt", "model-00001-of-00002.bin"])
def test_nothing_behind_a_link_out_of_the_folder_is_sent(
    hub: HubServer, client: Client, result: Path, tmp_path: Path, name: str
) -> None:
    (tmp_path / "id_rsa").write_text("PRIVATE KEY")
    (result / name).parent.mkdir(exist_ok=True)
    (result / name).symlink_to(tmp_path / "id_rsa")
    with pytest.raises(InputError, match=rf"{name} is a link out of the folder; put there what shall be sent"):
        finished_files(result)
    (result / name).unlink()
    (result / name).symlink_to(result / "config.json")
    assert name in finished_files(result)
