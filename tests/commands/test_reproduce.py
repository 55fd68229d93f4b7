"""A run repeated from its manifest: the same to the bit, and whatever is not is named; a manifest decides little."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from abliterate.cli import main
from abliterate.commands.export import with_original
from abliterate.commands.reproduce import explain, reproduce, weights_of
from abliterate.errors import InputError
from abliterate.models.source import resolve
from abliterate.pipeline.command import command, options_of_command
from abliterate.pipeline.conditions import recorded_in
from abliterate.pipeline.options import Options
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.pipeline.run import Result
from fixtures.tiny_chat import TINY
from servers.hub_client import TOKEN, Client
from servers.hub_server import Blob, HubServer

GIVEN = ReproduceOptions(model=str(TINY), device="cpu")


@pytest.fixture
def folder(result: Result, tmp_path: Path) -> Path:
    """A copy of the finished folder, prompts and all."""
    return Path(shutil.copytree(result.out, tmp_path / "copy"))


def change(folder: Path, **changes: Any) -> None:
    path = folder / "abliterate.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_run_comes_out_the_same(folder: Path, tmp_path: Path) -> None:
    one = reproduce(str(folder), GIVEN, tmp_path / "edited")
    assert one.same
    assert one.compared > 100
    assert one.files == (2, 2)  # the weights and the directions
    assert (tmp_path / "edited" / "abliterate.json").read_text() == (folder / "abliterate.json").read_text()


@pytest.mark.slow
def test_what_came_out_otherwise_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((folder / "abliterate.json").read_text())
    manifest["figures"]["kl"]["first_token"]["mean"] += 0.5
    hardware = {**manifest["hardware"], "device": "NVIDIA H200"}
    change(folder, figures=manifest["figures"], versions={**manifest["versions"], "torch": "1.0"}, hardware=hardware)
    tensors = load_file(folder / "model.safetensors")
    name = manifest["tensors"][0]["name"]
    tensors[name][0, 0] += 1
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", str(folder / "abliterate.json"), "--model", str(TINY), "--device", "cpu", "--json"])
    assert stop.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert [one["place"] for one in found["differences"]] == ["figures.kl.first_token.mean", "model.safetensors"]
    assert found["files"] == {"same": 1, "compared": 2}
    assert found["explanations"][0].startswith("torch 1.0 -> ")
    assert found["explanations"][1] == "device NVIDIA H200 -> cpu"


def test_what_explains_a_difference_may_be_missing_or_anything() -> None:
    after = {"abliterate": "2", "versions": {"torch": "3"}, "hardware": {"device": "cpu", "threads": 2}}
    assert explain(after, after) == (
        "versions, device, processor and threads are the same; the number of processes may not be",
    )
    assert explain({**after, "hardware": {"device": "cpu", "threads": 4}}, after) == ("threads 4 -> 2",)
    for hardware in (None, "a machine", ["cpu"]):
        assert explain({**after, "hardware": hardware}, after) == ("device unknown -> cpu", "threads unknown -> 2")


@pytest.mark.slow
def test_a_manifest_without_weights_says_that_none_were_compared(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "model.safetensors").unlink()
    with pytest.raises(SystemExit) as stop:
        main(["reproduce", str(folder), "--model", str(TINY), "--device", "cpu", "--out", str(tmp_path / "again")])
    assert stop.value.code == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("reproduced: all ")
    assert said[0].endswith(" values of the manifest are the same")
    assert said[1:] == ["note: no weights lie beside the manifest; none were compared"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--harmful", "../secret.txt"], "a file outside its folder"),
        (["--harmful", "/etc/passwd"], "a file outside its folder"),
        (["--harmless", "..\\secret.txt:column"], "a file outside its folder"),
        (["--chat-template", "/etc/passwd"], "a file outside its folder"),
        (["--chat-template", "none.jinja"], "none.jinja: is not beside the manifest"),
        (["--push", "me/mine"], "'--push', which this version does not know"),
        (["--device", "cuda"], "'--device', which this version does not know"),
        (["--force"], "'--force', which this version does not know"),
        (["stray"], "'stray', which this version does not know"),
        (["--layer", "x"], "--layer cannot be 'x'"),
        (["--sites", "attn,head"], "--sites cannot be 'attn,head'"),
        (["--direction", "any"], "--direction cannot be 'any'"),
    ],
)
def test_a_manifest_decides_little(folder: Path, tmp_path: Path, words: list[str], message: str) -> None:
    change(folder, command=["abliterate", "tiny-chat", *words, "--out", "edited"])
    with pytest.raises(InputError, match=message.replace("\\", "\\\\")):
        reproduce(str(folder), GIVEN, tmp_path / "again")
    assert not (tmp_path / "again").exists()


def test_remote_code_and_proofs_are_not_the_manifests_to_decide() -> None:
    words = ["abliterate", "a/b", "--trust-remote-code", "--allow-unproved", "--optimize", "--out", "x"]
    assert options_of_command(words, Path()) == {"optimize": True}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"command": ["rm", "-rf", "/"]}, "not one of abliterate's"),
        ({"command": ["abliterate", 1]}, "not one of abliterate's"),
        ({"command": None}, "tells of no run that could be repeated"),
        ({"command": ["abliterate", "apply", "x"]}, "tells of no run that could be repeated"),
        ({"source": {"model": "tiny-chat", "files": {"model.safetensors": "0"}}}, "has other weights than the run had"),
        ({"prompts": {"harmful": {"spec": "a.txt", "digest": "0"}}}, "holds other harmful prompts than the run had"),
    ],
)
def test_what_cannot_be_repeated(folder: Path, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    change(folder, **changes)
    with pytest.raises(InputError, match=message):
        reproduce(str(folder), GIVEN, tmp_path / "again")


def test_a_local_model_must_be_given(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="'tiny-chat', which is not on the Hub; say where it is with --model"):
        reproduce(str(folder), ReproduceOptions(device="cpu"), tmp_path / "again")
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    change(folder, source={"model": "org/name", "files": {}})  # a folder here that has the form of a Hub id
    with pytest.raises(InputError, match="say where it is with --model"):
        reproduce(str(folder), ReproduceOptions(device="cpu"), tmp_path / "again")


def test_what_is_no_manifest(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a manifest; give abliterate"):
        reproduce(str(folder / "recipe.json"), GIVEN, tmp_path / "again")
    with pytest.raises(InputError, match="was not written by abliterate"):
        reproduce(str(TINY), GIVEN, tmp_path / "again")


def test_a_command_is_read_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").touch()
    given = Options(
        str(TINY), tmp_path / "o", layer=3, direction="mean-difference", strength=0.5, sites=("attn",), n_train=9,
        harmful=str(tmp_path / "bad.txt"), harmless="org/set:train:column", dtype="float32", batch_size=4, seed=7,
        optimize=True, max_kl=0.25, system="Be brief.", thinking="on",
    )  # fmt: skip
    found = options_of_command(command(given, resolve(str(TINY))), tmp_path)
    assert Options(str(TINY), tmp_path / "o", **found) == given


@pytest.mark.slow
def test_from_the_hub_and_back(tmp_path: Path) -> None:
    """The whole way on a real HTTP server: download, edit, push, and repeated from the repository alone."""
    with HubServer() as hub:
        hub.account(TOKEN, "me")
        files = {path.name: path.read_bytes() for path in TINY.iterdir() if path.is_file()}
        hub.publish("org/tiny", files)
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "HUGGING"))}
        environment |= {
            "HF_ENDPOINT": hub.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HUB_DISABLE_XET": "1",
            "OMP_NUM_THREADS": "1",
        }
        environment |= {"NO_PROXY": "127.0.0.1,localhost", "ABLITERATE_CACHE": str(tmp_path / "cache")}

        def command(home: str, *words: str) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                [sys.executable, "-m", "abliterate", *words, "--device", "cpu", "--json"],
                capture_output=True, text=True, cwd=tmp_path, env={**environment, "HF_HOME": str(tmp_path / home)},
            )  # fmt: skip

        lists = ["--harmful", str(TINY / "harmful.txt"), "--harmless", str(TINY / "harmless.txt")]
        made = command("first", "org/tiny", *lists, "--no-optimize", "--push", "me/edited", "--out", "edited")
        assert made.returncode == 0, made.stderr[-2000:]
        assert "observations.json" not in hub.repositories["me/edited"].contents
        again = command("second", "reproduce", "me/edited")
        assert again.returncode == 0, again.stderr[-2000:]
        found = json.loads(again.stdout)
        assert found["same"]
        assert found["files"] == {"same": 2, "compared": 2}
        assert found["manifest"]["source"]["revision"] == hub.repositories["org/tiny"].commits[-1].oid
        # The original moves on; an export takes the commit that the edit was made from.
        moved = load_file(TINY / "model.safetensors")
        moved["model.norm.weight"] += 1
        save_file(moved, tmp_path / "moved.safetensors", metadata={"format": "pt"})
        original = hub.repositories["org/tiny"]
        weights = Blob((tmp_path / "moved.safetensors").read_bytes(), True)
        original.commit("moved", {**original.commits[-1].files, "model.safetensors": weights})
        adapter = command("third", "export", "edited", "--to", "adapter", "--out", "adapter")
        assert adapter.returncode == 0, adapter.stderr[-2000:]
        assert json.loads(adapter.stdout)["proof"]["holds"]
        assert TOKEN not in made.stdout + made.stderr + again.stdout + again.stderr
        for path in (tmp_path / "edited").iterdir():
            assert TOKEN.encode() not in path.read_bytes()


@pytest.fixture(scope="module")
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.account(TOKEN, "me")
        server.publish("org/tiny", {path.name: path.read_bytes() for path in TINY.iterdir() if path.is_file()})
        yield server


@pytest.fixture(scope="module")
def client(hub: HubServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    one = Client(hub, tmp_path_factory.mktemp("client"))
    one.run("import torch\nvalue = torch.set_num_threads(1)")
    yield one
    one.close()


PROMPTS = {"harmful": str(TINY / "harmful.txt"), "harmless": str(TINY / "harmless.txt")}


def edit_and_push(client: Client, out: Path, repository: str, **changes: Any) -> Path:
    """Edit the tiny model of the Hub, and push the result."""
    changes = {"optimize": False, **changes}
    client.run(
        "from abliterate.pipeline.options import Options\n"
        "from abliterate.hub.push import push\n"
        "from abliterate.pipeline.run import run\n"
        f"run(Options('org/tiny', Path({str(out)!r}), device='cpu', **{PROMPTS!r}, **{changes!r}))\n"
        f"push(Path({str(out)!r}), {repository!r})"
    )
    return out


@pytest.fixture(scope="module")
def pushed(client: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return edit_and_push(client, tmp_path_factory.mktemp("pushed") / "edited", "me/edited")


def repeat(repository: str, out: Path, **given: Any) -> str:
    return (
        "from abliterate.cli.reproduce import reproduced_json\n"
        "from abliterate.commands.reproduce import reproduce\n"
        "from abliterate.pipeline.reproduce_options import ReproduceOptions\n"
        f"one = reproduce({repository!r}, ReproduceOptions(device='cpu', **{given!r}), Path({str(out)!r}))\n"
        "value = reproduced_json(one)"
    )


def weigh(repository: str, out: Path, commit: str) -> str:
    """Compare a folder with the weights of a repository at a commit, without a run."""
    return (
        "from abliterate.commands.reproduce import compare_files, weights_of\n"
        f"weights = weights_of({repository!r}, Path('snapshots', {commit!r}), False)\n"
        f"counts, differences = compare_files(weights, Path({str(out)!r}))\n"
        "value = [counts, [[one.place, one.before, one.after] for one in differences]]"
    )


def flipped(data: bytes) -> bytes:
    """The same bytes but for the last one."""
    return data[:-1] + bytes([data[-1] ^ 1])


def test_weights_on_the_hub_are_compared_without_a_download(
    hub: HubServer, client: Client, pushed: Path, tmp_path: Path
) -> None:
    asked_before = len(hub.requests)
    found = client.run(repeat("me/edited", tmp_path / "again"))
    assert found["same"], found["differences"]
    assert found["files"] == {"same": 2, "compared": 2}
    assert found["notes"] == []
    fetched = [one for one in hub.requests[asked_before:] if "/me/edited/resolve/" in one]
    assert any(one.endswith("/abliterate.json") for one in fetched)
    assert not any(one.endswith(".safetensors") for one in fetched)


@pytest.mark.slow
def test_one_changed_byte_on_the_hub_is_named(hub: HubServer, client: Client, pushed: Path, tmp_path: Path) -> None:
    files = hub.repositories["me/edited"].commits[-1].files
    changed = Blob(flipped(files["model.safetensors"].content), True)
    repository = hub.publish("me/changed", {})
    repository.commit("changed", {**files, "model.safetensors": changed})
    found = client.run(repeat("me/changed", tmp_path / "again"))
    assert not found["same"]
    assert found["differences"] == [
        {"place": "model.safetensors", "before": "the file on the Hub", "after": "other bytes"}
    ]
    assert found["files"] == {"same": 1, "compared": 2}


@pytest.mark.slow
def test_offline_the_weights_on_the_hub_are_not_compared_and_a_note_says_so(
    hub: HubServer, client: Client, pushed: Path, tmp_path: Path
) -> None:
    name = "me/offline"
    repository = hub.publish(name, {})
    repository.commit("files", hub.repositories["me/edited"].commits[-1].files)
    client.run(
        "from abliterate.hub.download import download\n"
        "from abliterate.models.source import resolve\n"
        "from abliterate.pipeline.command import FETCHED\n"
        f"value = [str(download({name!r}, None, False, FETCHED)), str(resolve('org/tiny').folder)]"
    )
    with hub.unreachable():
        found = client.run(repeat(name, tmp_path / "again", offline=True))
    assert found["same"]
    assert found["files"] is None
    assert found["notes"] == ["the Hub cannot be asked for its weights offline; none were compared"]


def test_offline_the_weights_in_the_cache_are_compared(client: Client, pushed: Path, tmp_path: Path) -> None:
    snapshot = Path(shutil.copytree(pushed, tmp_path / "snapshots" / "0123"))
    (snapshot / "directions.safetensors").unlink()
    found = client.run(
        "from abliterate.commands.reproduce import compare_files, weights_of\n"
        f"weights = weights_of('me/edited', Path({str(snapshot)!r}), True)\n"
        f"value = [compare_files(weights, Path({str(pushed)!r})), weights.note]"
    )
    assert found == [[[1, 1], []], "the Hub cannot be asked for its weights offline; those in its cache were compared"]


def test_a_machine_kept_off_the_hub_is_offline(folder: Path) -> None:
    """The tests' own process has HF_HUB_OFFLINE set."""
    (folder / "model.safetensors").unlink()
    weights = weights_of("me/edited", folder, offline=False)
    assert weights.note == "the Hub cannot be asked for its weights offline; none were compared"


def test_weights_are_those_of_the_commit_of_the_manifest(hub: HubServer, client: Client, pushed: Path) -> None:
    files = hub.repositories["me/edited"].commits[-1].files
    repository = hub.publish("me/moving", {})
    evaluate_options = repository.commit("files", files).oid
    repository.commit("moved on", {**files, "model.safetensors": Blob(b"others", True)})
    assert client.run(weigh("me/moving", pushed, evaluate_options)) == [[2, 2], []]


def test_files_on_one_side_only_are_differences(hub: HubServer, client: Client, pushed: Path, tmp_path: Path) -> None:
    files = dict(hub.repositories["me/edited"].commits[-1].files)
    whole = files.pop("model.safetensors")
    first, second, third = (f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3))
    shards = {first: whole, second: Blob(b"two", True), f"deep/{third}": Blob(b"three", True)}
    beside = {"pytorch_model.bin": b"p", "training_args.bin": b"t", "onnx/other.safetensors": b"o", "model.gguf": b"g"}
    repository = hub.publish("me/shards", beside)
    commit = repository.commit("shards", {**repository.commits[-1].files, **files, **shards}).oid
    out = Path(shutil.copytree(pushed, tmp_path / "out"))
    (out / "model.safetensors").rename(out / first)
    (out / "deep").mkdir()
    (out / "deep" / third).write_bytes(b"three")
    (out / "extra.safetensors").write_bytes(b"extra")
    assert client.run(weigh("me/shards", out, commit)) == [
        [3, 6],
        [
            ["extra.safetensors", "not on the Hub", "written"],
            [second, "the file on the Hub", "not written"],
            ["pytorch_model.bin", "the file on the Hub", "not written"],
        ],
    ]


def test_a_repository_without_its_weights_differs(hub: HubServer, client: Client, pushed: Path) -> None:
    commit = hub.publish("me/bare", {"abliterate.json": b"{}"}).commits[-1].oid
    counts, differences = client.run(weigh("me/bare", pushed, commit))
    assert counts == [0, 2]
    assert differences == [
        ["directions.safetensors", "not on the Hub", "written"],
        ["model.safetensors", "not on the Hub", "written"],
    ]


@pytest.mark.parametrize("same", [True, False])
def test_a_small_file_outside_lfs_is_compared_by_its_git_id(
    hub: HubServer, client: Client, pushed: Path, same: bool
) -> None:
    files = hub.repositories["me/edited"].commits[-1].files
    content = files["directions.safetensors"].content
    small = Blob(content if same else flipped(content), False)
    repository = hub.publish(f"me/small-{same}", {})
    commit = repository.commit("files", {**files, "directions.safetensors": small}).oid
    differing = [] if same else [["directions.safetensors", "the file on the Hub", "other bytes"]]
    assert client.run(weigh(f"me/small-{same}", pushed, commit)) == [[2 - len(differing), 2], differing]


@pytest.mark.slow
def test_an_adapter_counts_likewise(hub: HubServer, client: Client, tmp_path: Path) -> None:
    edit_and_push(client, tmp_path / "adapter", "me/adapter", save=("adapter",))
    found = client.run(repeat("me/adapter", tmp_path / "again", **PROMPTS))
    assert found["same"], found["differences"]
    assert found["files"] == {"same": 2, "compared": 2}
    repository = hub.repositories["me/adapter"]
    files = repository.commits[-1].files
    changed = Blob(flipped(files["adapter_model.safetensors"].content), True)
    commit = repository.commit("changed", {**files, "adapter_model.safetensors": changed}).oid
    differing = [["adapter_model.safetensors", "the file on the Hub", "other bytes"]]
    assert client.run(weigh("me/adapter", tmp_path / "again", commit)) == [[1, 2], differing]


@pytest.fixture
def cached(client: Client, pushed: Path) -> Iterator[None]:
    """The manifest is in the cache; and the Hub's library does not wait between its attempts to reach the Hub."""
    client.run(
        "import time\n"
        "from abliterate.hub.download import download\n"
        "from abliterate.pipeline.command import FETCHED\n"
        "download('me/edited', None, False, FETCHED)\n"
        "time.waits, time.sleep = time.sleep, lambda seconds: None\n"
        "value = None"
    )
    yield
    client.run("import time\ntime.sleep = time.waits\nvalue = None")


@pytest.mark.usefixtures("cached")
@pytest.mark.parametrize(
    ("status", "message"),
    [
        (500, "me/edited: the Hub answered 500; try again later"),
        (403, "me/edited: the Hub answered 403; run `hf auth login` or set HF_TOKEN"),
        (0, "me/edited: the connection to the Hub broke ("),
    ],
)
def test_a_hub_that_refuses_its_listing_ends_it_before_the_run(
    hub: HubServer, client: Client, tmp_path: Path, status: int, message: str
) -> None:
    with hub.fail("GET", "/api/models/me/edited/tree/", status):
        kind, said = client.error(repeat("me/edited", tmp_path / "again"))
    assert kind == "HubError"
    assert said.startswith(message)
    assert not (tmp_path / "again").exists()


@pytest.mark.usefixtures("cached")
def test_a_hub_out_of_reach_ends_it_before_the_run(hub: HubServer, client: Client, tmp_path: Path) -> None:
    with hub.unreachable():
        kind, said = client.error(repeat("me/edited", tmp_path / "again"))
    assert kind == "HubError"
    assert said.startswith("me/edited: the connection to the Hub broke (")
    assert not (tmp_path / "again").exists()


@pytest.mark.parametrize(
    "spec",
    [
        "../secret",
        "./secret",
        "../secret:train:text",
        "secret",
        "org/name",
        "org/name:train:text",
        "~",
        "~/secret",
        ".hidden/x",
        "..",
        ".",
    ],
)
def test_prompts_that_lie_here_but_not_beside_the_manifest_are_not_read(
    folder: Path, tmp_path: Path, spec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("secret", "copy/secret", "copy/.hidden/x", "copy/org/name"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "data.txt").write_text("\n".join(f"secret line {number}" for number in range(30)))
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(tmp_path))
    change(folder, command=["abliterate", "tiny-chat", "--harmful", spec, "--out", "edited"])
    with pytest.raises(InputError, match=r"the manifest names (the prompts|a file outside)") as caught:
        reproduce(str(folder), GIVEN, tmp_path / "again")
    assert "secret line" not in str(caught.value)
    with pytest.raises(InputError, match=r"the manifest names (the prompts|a file outside)"):
        recorded_in(folder, "copy").conditions(("harmful",))  # type: ignore[union-attr]  # a later verb, the same


def test_a_link_beside_the_manifest_is_not_read(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data.txt").write_text("\n".join(f"secret line {number}" for number in range(30)))
    (folder / "harmful.txt").unlink()
    (folder / "harmful.txt").symlink_to("../data.txt")
    with pytest.raises(InputError, match=r"harmful.txt: is a link out of the manifest's folder"):
        reproduce(str(folder), GIVEN, tmp_path / "again")


NOT_ON_THE_HUB = "which is not on the Hub; say where it is with --model"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        *((path, NOT_ON_THE_HUB) for path in ("./x", "../x", ".hidden/x", "~/x", "/x/y")),
        (3, "source.model should be text"),
    ],
)
def test_the_model_of_a_manifest_is_on_the_hub_or_given(folder: Path, tmp_path: Path, model: object, said: str) -> None:
    change(folder, source={"model": model, "files": {}})
    with pytest.raises(InputError, match=said):
        reproduce(str(folder), ReproduceOptions(device="cpu"), tmp_path / "again")


@pytest.mark.parametrize(
    ("revision", "said"),
    [
        ("../../../.ssh/authorized_keys", "which is no commit"),
        ("a/b", "which is no commit"),
        (7, "source.revision should be text"),
    ],
)
def test_the_revision_of_a_manifest_is_no_path(folder: Path, tmp_path: Path, revision: object, said: str) -> None:
    change(folder, source={"model": "org/name", "revision": revision, "files": {}})
    with pytest.raises(InputError, match=said):
        reproduce(str(folder), ReproduceOptions(device="cpu"), tmp_path / "again")
    manifest = {"source": {"model": "org/name", "revision": revision}}
    with pytest.raises(InputError, match="which is no commit"):
        with_original(Options("", tmp_path / "again"), manifest)
    assert with_original(Options("", tmp_path / "again", revision="a/b"), manifest).revision == "a/b"
