"""The optional packages: the table is that of pyproject.toml, the command works here, and what is missing is found first."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import abliterate
from abliterate import cli
from abliterate import extras as room
from abliterate.errors import InputError
from abliterate.extras import EXTRAS, install_command, missing, require
from fixtures.tiny_chat import TINY

PACKAGE = Path(abliterate.__file__).parent
PROMPTS = ["--harmful", str(TINY / "harmful.txt"), "--harmless", str(TINY / "harmless.txt")]


class FakeDistribution:
    """An installed package with this note of where it came from."""

    def __init__(self, noted: dict[str, Any] | None) -> None:
        self.noted = noted

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.noted is None else json.dumps(self.noted)


def installed(monkeypatch: pytest.MonkeyPatch, noted: dict[str, Any] | None) -> None:
    monkeypatch.setattr(metadata, "distribution", lambda name: FakeDistribution(noted))
    monkeypatch.setattr(room, "distribution", lambda name: FakeDistribution(noted))


def clone(folder: Path, *, constraints: bool = True) -> Path:
    folder.mkdir(parents=True)
    shutil.copy(PACKAGE.parent / "pyproject.toml", folder)
    if constraints:
        (folder / "constraints.txt").touch()
    return folder


def test_every_extra_of_the_project_is_known() -> None:
    text = (PACKAGE.parent / "pyproject.toml").read_text()
    table = text.partition("[project.optional-dependencies]")[2].partition("[project.scripts]")[0]
    listed = dict(re.findall(r'^(\w+) = \[("[^\]]*")\]$', table, re.MULTILINE))
    assert listed.keys() == EXTRAS.keys()
    known_by = metadata.packages_distributions()
    for extra, modules in EXTRAS.items():
        wanted = {canonicalize_name(Requirement(one).name) for one in re.findall(r'"([^"]*)"', listed[extra])}
        assert {canonicalize_name(known_by.get(module, [module])[0]) for module in modules} == wanted


def test_nothing_says_how_to_install_but_the_one_function() -> None:
    said = [path for path in PACKAGE.rglob("*.py") if "pip install" in path.read_text() and path != Path(room.__file__)]
    assert not said


@pytest.mark.parametrize("extra", EXTRAS)
def test_what_is_missing_is_one_line_with_the_command(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if extra != "features":  # 35 packages more than the tests are worth: see docs/studies/features.md
        require(extra, "this")
        assert missing(extra) == []
    for place, module in enumerate(EXTRAS[extra]):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError) as said:
            require(extra, "this")
        names = " and ".join(EXTRAS[extra][: place + 1])
        verb = "are" if place else "is"
        assert str(said.value) == f"this needs {names}, which {verb} not installed: {install_command(extra)}"
    assert missing(extra) == list(EXTRAS[extra])


def test_a_module_that_is_not_needed_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    require("train", "this", "peft")


def test_the_command_of_a_clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = clone(tmp_path / "my models" / "abliterate")
    monkeypatch.chdir(folder)
    assert install_command("train", folder) == "pip install -c constraints.txt -e '.[train]'"
    monkeypatch.chdir(tmp_path)
    assert shlex.split(install_command("train", folder)) == [
        "pip", "install", "-c", str(folder / "constraints.txt"), "-e", f"{folder}[train]",
    ]  # fmt: skip
    bare = clone(tmp_path / "bare", constraints=False)
    monkeypatch.chdir(bare)
    assert install_command("gguf", bare) == "pip install -e '.[gguf]'"


def test_this_is_a_clone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(PACKAGE.parent)
    assert install_command("train") == "pip install -c constraints.txt -e '.[train]'"


def test_the_command_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = clone(tmp_path / "a clone", constraints=False)
    other = tmp_path / "other"
    other.mkdir()
    (other / "pyproject.toml").write_text('[project]\nname = "other"\n')  # a project that holds its environment
    monkeypatch.chdir(tmp_path)
    commit = {"vcs": "git", "commit_id": "0" * 40}
    url = "https://example.org/abliterate"
    for noted, words in (
        (None, ["abliterate[eval]"]),
        ({"url": folder.as_uri(), "dir_info": {}}, [f"{folder}[eval]"]),
        ({"url": folder.as_uri(), "dir_info": {"editable": True}}, ["-e", f"{folder}[eval]"]),
        ({"url": (tmp_path / "gone").as_uri(), "dir_info": {}}, ["abliterate[eval]"]),
        ({"url": url, "vcs_info": commit}, [f"abliterate[eval] @ git+{url}@{'0' * 40}"]),
        ({"url": url, "vcs_info": {**commit, "requested_revision": "v1"}}, [f"abliterate[eval] @ git+{url}@v1"]),
        ({"url": f"{url}.whl", "archive_info": {}}, [f"abliterate[eval] @ {url}.whl"]),
    ):
        installed(monkeypatch, noted)
        assert shlex.split(install_command("eval", other)) == ["pip", "install", *words]


def test_without_metadata_the_name_is_all_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(room, "distribution", gone)
    assert install_command("eval", tmp_path) == "pip install 'abliterate[eval]'"


# Every verb: what is missing is said before anything is loaded, generated, copied or written


@pytest.fixture
def edited(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe of an edit, one direction, and no weights."""
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("edited")
    (folder / "recipe.json").write_text(
        json.dumps({"direction": "resid.4", "strengths": {"embed": 1.0, "attn": 1.0, "mlp": 1.0}, "layers": {}})
    )
    save_file({"resid.4": torch.nn.functional.normalize(torch.ones(64), dim=0)}, folder / "directions.safetensors")
    return folder


@pytest.fixture
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapter")
    (folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(TINY)}))
    return folder


@pytest.fixture
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    path.write_bytes(b"GGUF")
    return path


URL = ["--endpoint", "http://127.0.0.1:9"]
JUDGE = ["--judge-endpoint", "http://127.0.0.1:9"]
OUT = ["--out", "OUT"]

LACKING: dict[str, tuple[list[str], str, str]] = {
    "evaluate --endpoint": (["evaluate", *URL, *PROMPTS], "openai", "--endpoint"),
    "evaluate --judge-endpoint": (["evaluate", str(TINY), *JUDGE, *PROMPTS], "openai", "--judge-endpoint"),
    "compare --judge-endpoint": (["compare", str(TINY), str(TINY), *JUDGE, *PROMPTS], "openai", "--judge-endpoint"),
    "evaluate --tasks": (["evaluate", str(TINY), "--tasks", "mmlu", *PROMPTS], "lm_eval", "--tasks"),
    "evaluate ADAPTER": (["evaluate", "ADAPTER", "--against", str(TINY), *PROMPTS], "peft", "reading an adapter"),
    "compare ADAPTER": (["compare", str(TINY), str(TINY), "ADAPTER", *PROMPTS], "peft", "reading an adapter"),
    "evaluate GGUF": (["evaluate", "GGUF", "--against", str(TINY), *PROMPTS], "gguf", "reading a .gguf file"),
    "compare GGUF": (["compare", str(TINY), str(TINY), "GGUF", *PROMPTS], "gguf", "reading a .gguf file"),
    "chat ADAPTER": (["chat", "ADAPTER"], "peft", "reading an adapter"),
    "chat GGUF": (["chat", str(TINY), "--against", "GGUF"], "gguf", "reading a .gguf file"),
    "clusters": (["clusters", str(TINY)], "minisom", "clusters"),
    "lab": (["lab", "EDITED"], "starlette", "the lab"),
    "lab, uvicorn": (["lab", "EDITED"], "uvicorn", "the lab"),
    "export adapter": (["export", "EDITED", "--to", "adapter", "--model", str(TINY), *OUT], "peft", "--to adapter"),
    "export gguf-adapter": (
        ["export", "EDITED", "--to", "gguf-adapter", "--model", str(TINY), *OUT],
        "gguf",
        "--to gguf-adapter",
    ),
    "export control-vector": (
        ["export", "EDITED", "--to", "control-vector", "--model", str(TINY), *OUT],
        "gguf",
        "--to control-vector",
    ),
    "run --save adapter": ([str(TINY), *PROMPTS, "--save", "checkpoint,adapter", *OUT], "peft", "--save adapter"),
    "run --save gguf-adapter": (
        [str(TINY), *PROMPTS, "--save", "checkpoint,gguf-adapter", *OUT],
        "gguf",
        "--save gguf-adapter",
    ),
    "harden": ([str(TINY), *PROMPTS, "--mode", "harden", *OUT], "peft", "--mode harden"),
    "induce": ([str(TINY), *PROMPTS, "--mode", "induce", *OUT], "peft", "--mode induce, which writes an adapter"),
    "heal, peft": (["heal", str(TINY), "--dataset", "nowhere.jsonl", *OUT], "peft", "healing"),
    "heal, trl": (["heal", str(TINY), "--dataset", "nowhere.jsonl", *OUT], "trl", "healing"),
    "run GGUF": (["GGUF", *PROMPTS, *OUT], "gguf", "reading a .gguf file"),
    "apply GGUF": (
        ["apply", "GGUF", "--directions", "EDITED/directions.safetensors", *OUT],
        "gguf",
        "reading a .gguf file",
    ),
    "inspect GGUF": (["inspect", "GGUF"], "gguf", "reading a .gguf file"),
    "inspect GGUF, tokenizer": (["inspect", "GGUF"], "sentencepiece", "reading a .gguf file"),
}


def never(*_: Any, **__: Any) -> Any:
    raise AssertionError("this takes long, and was begun before the missing package was found")


@pytest.mark.parametrize("name", LACKING)
def test_a_missing_extra_is_found_before_anything_long(
    name: str, tmp_path: Path, edited: Path, adapter: Path, gguf_file: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    words, module, purpose = LACKING[name]
    for mark, path in (("EDITED", edited), ("ADAPTER", adapter), ("GGUF", gguf_file), ("OUT", tmp_path / "out")):
        words = [re.sub(rf"^{mark}\b(?!-)", str(path), word) for word in words]
    import transformers

    monkeypatch.setitem(sys.modules, module, None)
    if name != "induce":  # whether it needs an adapter is tried on a small clone
        monkeypatch.setattr(transformers.PreTrainedModel, "from_pretrained", never)
    for module_name, imported in list(sys.modules.items()):  # wherever it was imported to
        if module_name.startswith("abliterate.") and hasattr(imported, "load_model"):
            monkeypatch.setattr(imported, "load_model", never)
    monkeypatch.setattr(transformers.GenerationMixin, "generate", never)
    monkeypatch.setattr("abliterate.models.gguf.content_hash", never)
    monkeypatch.setattr("abliterate.checkpoints.checkpoint.content_hash", never, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        cli.main(words)
    out, err = capsys.readouterr()
    assert stop.value.code == 2
    (line,) = [line for line in err.splitlines() if line.startswith("abliterate: ")]
    assert line.startswith(f"abliterate: {purpose}")
    assert f"needs {module}, which is not installed: pip install " in line
    assert out == ""
    assert not list(tmp_path.iterdir())


def test_pushing_needs_no_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in {module for modules in EXTRAS.values() for module in modules}:
        monkeypatch.setitem(sys.modules, module, None)
    from abliterate.hub.push import push

    with pytest.raises(InputError, match="is not a finished checkpoint"):
        push(tmp_path, "org/name")
