"""A run repeated from its manifest: the same to the bit, and whatever is not is named; a manifest decides little."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from abliterate.cli import main
from abliterate.errors import InputError
from abliterate.pipeline import Result, run
from abliterate.repeat import asked, command
from abliterate.session import Options
from abliterate.source import resolve
from abliterate.verbs.reproduce import Given, reproduce
from hub_server import Blob, HubServer
from test_end_to_end import TINY, options
from test_hub import TOKEN

GIVEN = Given(model=str(TINY), device="cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return run(options(tmp_path_factory.mktemp("run") / "edited"))


@pytest.fixture
def folder(made: Result, tmp_path: Path) -> Path:
    """A copy of the finished folder, prompts and all."""
    return Path(shutil.copytree(made.out, tmp_path / "copy"))


def change(folder: Path, **changes: Any) -> None:
    path = folder / "abliterate.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_run_comes_out_the_same(folder: Path, tmp_path: Path) -> None:
    one = reproduce(str(folder), GIVEN, tmp_path / "edited")
    assert one.same
    assert one.compared > 100
    assert one.files == (2, 2)  # the weights and the directions
    assert (tmp_path / "edited" / "abliterate.json").read_text() == (folder / "abliterate.json").read_text()


def test_what_came_out_otherwise_is_named(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = json.loads((folder / "abliterate.json").read_text())
    manifest["figures"]["kl"]["first_token"]["mean"] += 0.5
    change(folder, figures=manifest["figures"], versions={**manifest["versions"], "torch": "1.0"})
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
    assert asked(words, Path()) == {"optimize": True}


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
        reproduce(str(folder), Given(device="cpu"), tmp_path / "again")
    (tmp_path / "org" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    change(folder, source={"model": "org/name", "files": {}})  # a folder here that has the form of a Hub id
    with pytest.raises(InputError, match="say where it is with --model"):
        reproduce(str(folder), Given(device="cpu"), tmp_path / "again")


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
    found = asked(command(given, resolve(str(TINY))), tmp_path)
    assert Options(str(TINY), tmp_path / "o", **found) == given


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
        made = command("first", "org/tiny", *lists, "--push", "me/edited", "--out", "edited")
        assert made.returncode == 0, made.stderr[-2000:]
        assert "observations.json" not in hub.repositories["me/edited"].contents
        again = command("second", "reproduce", "me/edited")
        assert again.returncode == 0, again.stderr[-2000:]
        found = json.loads(again.stdout)
        assert found["same"]
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
