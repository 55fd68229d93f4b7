"""Fixtures: shapes are checked in every test, and small random models of several families.

What torch's kernels round, and in which order they sum, is the machine's; no test may hang on it. Two variables of the
environment make another machine of this one, to try that:

- `ABLITERATE_TEST_THREADS` (1): threads of torch in the tests, and in the processes that they start;
- `ABLITERATE_TEST_MKLDNN` (on): `off` takes torch's own kernels instead of oneDNN's. Torch reads no variable for that,
  so processes that a test starts keep oneDNN.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

# Every annotated tensor shape is checked at run time, in all tests: must come before the package is imported.
from jaxtyping import install_import_hook

hook = install_import_hook("abliterate", "beartype.beartype")

import torch  # noqa: E402
from transformers import PreTrainedModel  # noqa: E402

from fixtures.models import FAMILIES, random_model  # noqa: E402

threads = os.environ.get("ABLITERATE_TEST_THREADS", "1")
torch.set_num_threads(int(threads))  # one: the models are too small to share, and other work would stall them
if "ABLITERATE_TEST_THREADS" in os.environ:
    os.environ["OMP_NUM_THREADS"] = threads  # what a new process's torch starts with

mkldnn = os.environ.get("ABLITERATE_TEST_MKLDNN", "on")
if mkldnn not in ("on", "off"):
    raise pytest.UsageError(f"ABLITERATE_TEST_MKLDNN={mkldnn}: on or off")
torch.backends.mkldnn.enabled = mkldnn == "on"


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


@pytest.fixture(scope="session")
def real_models() -> Path:
    """The folder of the small real models, or a skip that says why."""
    folder = Path(os.environ.get("ABLITERATE_TEST_MODELS") or Path.home() / ".cache" / "abliterate-test-models")
    if not folder.is_dir():
        pytest.skip(f"no real models in {folder}; set ABLITERATE_TEST_MODELS")
    return folder
