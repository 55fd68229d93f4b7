"""Fixtures: shapes are checked in every test, and small random models of several families.

What torch's kernels round, and in which order they sum, is the machine's; no test may hang on it. Two variables of the
environment make another machine of this one, to try that:

- `ABLITERATE_TEST_THREADS` (1): threads of torch in the tests, and in the processes that they start;
- `ABLITERATE_TEST_MKLDNN` (on): `off` takes torch's own kernels instead of oneDNN's. Torch reads no variable for that,
  so processes that a test starts keep oneDNN.

Laws are tried on 25 examples each, where they do not say how many; `ABLITERATE_TEST_EXAMPLES` gives another number.
"""

from __future__ import annotations

import gc
import os
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Every annotated tensor shape is checked at run time, in all tests: must come before the package is imported. Modules without one are not
# wrapped: a checker around each of their calls took two fifths of the time of all tests, and types alone are what mypy checks.
from jaxtyping import install_import_hook

ROOT = Path(__file__).parents[1]

# A shell's background jobs ignore Ctrl-C, and so would every process that a test starts and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)

with_shapes = [
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for path in (ROOT / "abliterate").rglob("*.py")
    if "jaxtyping" in path.read_text(encoding="utf-8")
]
hook = install_import_hook(with_shapes, "beartype.beartype")

import torch  # noqa: E402
from hypothesis import settings  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

import fixtures.tiny_chat  # noqa: E402, F401 - makes the one copy of the tiny model before other processes begin
from abliterate import errors  # noqa: E402
from abliterate.errors import flags_spoken  # noqa: E402
from fixtures.models import FAMILIES, random_model  # noqa: E402

if TYPE_CHECKING:
    from abliterate.evaluation.evaluation import Evaluation
    from abliterate.pipeline.load import Loaded
    from abliterate.pipeline.run import Result

settings.register_profile("suite", max_examples=int(os.environ.get("ABLITERATE_TEST_EXAMPLES", "25")), deadline=None)
settings.load_profile("suite")

threads = os.environ.get("ABLITERATE_TEST_THREADS", "1")
torch.set_num_threads(int(threads))  # one: the models are too small to share, and other work would stall them
os.environ["OMP_NUM_THREADS"] = threads  # what a new process's torch starts with
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # beside other tests, threads that spin wait for each other

mkldnn = os.environ.get("ABLITERATE_TEST_MKLDNN", "on")
if mkldnn not in ("on", "off"):
    raise pytest.UsageError(f"ABLITERATE_TEST_MKLDNN={mkldnn}: on or off")
torch.backends.mkldnn.enabled = mkldnn == "on"


def pytest_collection_finish() -> None:
    """Leave what is there by now, half a million objects, out of every later garbage collection: trainers ask for full ones."""
    gc.collect()
    gc.freeze()


@pytest.fixture(params=sorted(FAMILIES))
def model(request: pytest.FixtureRequest) -> PreTrainedModel:
    return random_model(request.param)


@pytest.fixture
def llama() -> PreTrainedModel:
    return random_model("llama")


@pytest.fixture
def direction() -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(48, generator=torch.Generator().manual_seed(7)), dim=0)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """No test reads or writes the user's cache."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["ABLITERATE_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session", autouse=True)
def flags() -> Iterator[None]:
    """Messages are tested as they are written, with options as flags; tests/test_errors.py says how a library says them."""
    with flags_spoken():
        yield


@pytest.fixture
def keywords(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages name options as Python does, as where no command line listens."""
    monkeypatch.setattr(errors, "FLAGS_SPOKEN", threading.Event())


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of the small real models, or a skip that says why."""
    folder = Path(os.environ.get("ABLITERATE_TEST_MODELS") or Path.home() / ".cache" / "abliterate-test-models")
    if not folder.is_dir():
        pytest.skip(f"no real models in {folder}; set ABLITERATE_TEST_MODELS")
    return folder


# What takes long is made once for all tests of a process. They read it; whoever changes it is found at the end.


@pytest.fixture(scope="session")
def result(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """A run on the bundled tiny model, in its own bfloat16."""
    from abliterate.pipeline.run import run
    from fixtures.tiny_chat import hashes, options

    made = run(options(tmp_path_factory.mktemp("run") / "edited"))
    before = hashes(made.out)
    yield made
    assert hashes(made.out) == before


@pytest.fixture(scope="session")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """The same in float32, where replies of two ways are held against each other."""
    from abliterate.pipeline.run import run
    from fixtures.tiny_chat import hashes, in_float32

    made = run(in_float32(tmp_path_factory.mktemp("run") / "edited"))
    before = hashes(made.out)
    yield made
    assert hashes(made.out) == before


@pytest.fixture(scope="session")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Result]:
    """A run with a short search."""
    from abliterate.pipeline.run import run
    from fixtures.search import short_stages
    from fixtures.tiny_chat import hashes, options

    with short_stages():
        made = run(options(tmp_path_factory.mktemp("search") / "edited", optimize=True))
    before = hashes(made.out)
    yield made
    assert hashes(made.out) == before


@pytest.fixture(scope="session")
def evaluation(edited: Result) -> Evaluation:
    """The edited model beside its original."""
    from abliterate.commands.evaluate import evaluate
    from fixtures.evaluations import SHORT
    from fixtures.tiny_chat import TINY, in_float32

    return evaluate(in_float32(Path(), model=str(edited.out)), SHORT, str(TINY))


@pytest.fixture(scope="session")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """What the steps of a run work on."""
    from abliterate.pipeline.load import load_run
    from abliterate.progress import SILENT
    from fixtures.tiny_chat import options
    from fixtures.unfinished import QUICK

    return load_run(options(tmp_path_factory.mktemp("loaded") / "edited", **QUICK), SILENT)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, empty."""
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Count what is computed, by what it is for: batches of activations, batches of replies, scores."""
    from abliterate.activations import capture
    from abliterate.directions import addition, selection
    from abliterate.models import generation

    counted = Counter[str]()

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted_function(*arguments: Any, **named: Any) -> Any:
            counted[name] += 1
            return function(*arguments, **named)

        return counted_function

    monkeypatch.setattr(capture, "final_hidden", counting("activations", capture.final_hidden))
    monkeypatch.setattr(generation, "reply_to", counting("replies", generation.reply_to))
    for room in (selection, addition):  # the unedited model's own predictions are asked for in `scoring`: no unit
        monkeypatch.setattr(room, "final_states", counting("scores", room.final_states))
    return counted
