"""Where a model comes from: a Hub id, a local folder or a `.gguf` file becomes a checkpoint on disk, and its config
a model without weights."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import huggingface_hub
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from abliterate.checkpoints.checkpoint import Checkpoint, content_hash
from abliterate.errors import HubError, InputError, first_line
from abliterate.extras import require
from abliterate.progress import SILENT, Progress
from abliterate.quantization.formats.registry import format_of
from abliterate.storage.cache import cache_folder

TRANSPORT_ERROR: type[Exception] = HfHubHTTPError.__mro__[1]
"""What the Hub's HTTP library raises when a connection breaks; the library has changed between versions."""

HUB_FILES = (
    "*.safetensors",
    "*.json",
    "*.jinja",
    "*.txt",
    "*.model",
    "*.py",
    "*.tiktoken",
    "LICENSE*",
    "NOTICE*",
    "README.md",
)
"""What is fetched of a repository: weights, configuration, tokenizer, custom code, licence; no pickles, no GGUF."""

HUB_COPIES = ("original/*", "metal/*", "onnx/*", "openvino/*", "consolidated*.safetensors")
"""Second copies of the weights in other forms, which would be downloaded for nothing."""


@dataclass(frozen=True)
class Source:
    """A model as the user named it, and its checkpoint on this machine. `revision` is a commit of the Hub."""

    name: str
    checkpoint: Checkpoint
    revision: str | None = None
    trust_remote_code: bool = False

    @property
    def folder(self) -> Path:
        """Return the folder that holds the checkpoint."""
        return self.checkpoint.folder

    @property
    def public_name(self) -> str:
        """Return the Hub id, or the name of the local folder or file without where it lies."""
        return shown_name(self.name)


def shown_name(model: str) -> str:
    """Return a Hub id as it is, of a path its last part."""
    path = Path(model).expanduser()
    return path.resolve().name if path.exists() else model


GGUF = "reading a .gguf file"
"""What needs the `gguf` extra here."""


def resolve(
    model: str,
    *,
    revision: str | None = None,
    offline: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = SILENT,
) -> Source:
    """Find the checkpoint that `model` names: a local folder, a `.gguf` file, or a Hub id, which is downloaded.

    Raises InputError for an unknown model, HubError when the Hub refuses, CheckpointError for damaged files and
    for quantised weights.
    """
    path = Path(model).expanduser()
    commit = None
    if path.suffix == ".gguf":
        folder = from_gguf(path, progress)
    elif path.is_dir():
        folder = path
    elif path.exists():
        raise InputError(f"{model}: is a file; give a Hub id, a folder or a .gguf file")
    else:
        folder = download(model, revision, offline)
        commit = folder.name
    format_of(folder)  # which refuses what cannot be kept
    return Source(model, Checkpoint.open(folder), commit, trust_remote_code)


def download(model: str, revision: str | None, offline: bool, files: Sequence[str] = HUB_FILES) -> Path:
    """Return the folder of a Hub repository's snapshot in the Hub's cache, downloading what is missing."""
    with hub_errors(model):
        if "/" in model and not model.startswith((".", "/", "~")) and model.count("/") == 1:
            return Path(
                huggingface_hub.snapshot_download(
                    model,
                    revision=revision,
                    local_files_only=offline,
                    allow_patterns=list(files),
                    ignore_patterns=list(HUB_COPIES),
                )
            )
    raise InputError(f"{model}: no such folder or file, and not a Hub id of the form org/name")


@contextmanager
def hub_errors(name: str) -> Iterator[None]:
    """Turn what huggingface_hub raises into one line that says what to do."""
    try:
        yield
    except GatedRepoError as error:
        raise HubError(f"{name}: access is gated; accept its terms on its page, then run `hf auth login`") from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"{name}: no such model on the Hub or on this disk; check the name (private ones need `hf auth login`)"
        ) from error
    except RevisionNotFoundError as error:
        raise InputError(f"{name}: has no such --revision; give a branch, a tag or a commit") from error
    except LocalEntryNotFoundError as error:
        # A server that answers with an error also ends here, once nothing is cached.
        if isinstance(error.__cause__, HfHubHTTPError):
            raise answered(name, error.__cause__) from error
        raise HubError(
            f"{name}: is not in the local cache and the Hub cannot be reached; connect, or drop --offline"
        ) from error
    except HFValidationError as error:
        raise InputError(f"{name}: not a name that the Hub allows; give a folder, a .gguf file or org/name") from error
    except HfHubHTTPError as error:
        raise answered(name, error) from error
    except TRANSPORT_ERROR as error:
        raise HubError(
            f"{name}: the connection to the Hub broke ({first_line(error)}); try again, what came is kept"
        ) from error


def answered(name: str, error: HfHubHTTPError) -> HubError:
    """Return the error for a Hub that answered, but with an error."""
    status = error.response.status_code if error.response is not None else "no answer"
    way_out = "run `hf auth login` or set HF_TOKEN" if status in (401, 403) else "try again later"
    return HubError(f"{name}: the Hub answered {status}; {way_out}")


def from_gguf(path: Path, progress: Progress) -> Path:
    """Return a folder with the dequantised bf16 checkpoint of a `.gguf` file, made once per content.

    Raises InputError when the file is missing, the `gguf` extra is not installed, or transformers cannot read it.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    require("gguf", GGUF)
    from transformers import GgufConfig

    folder = cache_folder() / "gguf" / content_hash(path, progress)[:32]
    if (folder / "config.json").is_file():
        return folder
    place: dict[str, Any] = {"gguf_file": path.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **place)
        model = AutoModelForCausalLM.from_pretrained(
            path.parent, dtype=torch.bfloat16, quantization_config=GgufConfig(dequantize=True), **place
        )
    except (ValueError, KeyError, NotImplementedError, OSError) as error:
        raise InputError(f"{path}: transformers cannot read this GGUF file ({first_line(error)})") from error
    partial = folder.with_name(f"{folder.name}.{os.getpid()}.partial")
    model.save_pretrained(partial)
    tokenizer.save_pretrained(partial)
    partial.rename(folder)
    return folder


def load_tokenizer(source: Source, folder: Path | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the source."""
    with load_errors(source.name):
        return cast(
            PreTrainedTokenizerBase,
            AutoTokenizer.from_pretrained(folder or source.folder, trust_remote_code=source.trust_remote_code),
        )


def load_empty(source: Source) -> PreTrainedModel:
    """Return the model without weights. Raises InputError for an unknown model type or code that is not trusted."""
    with load_errors(source.name):
        config = AutoConfig.from_pretrained(source.folder, trust_remote_code=source.trust_remote_code)
    return build_empty(source.name, config, source.trust_remote_code)


def resolve_config(
    model: str, *, revision: str | None = None, offline: bool = False, trust_remote_code: bool = False
) -> tuple[str, PreTrainedModel]:
    """Return the public name of a model, and the model without weights; of the Hub only small files are fetched."""
    path = Path(model).expanduser()
    extra: dict[str, Any] = {}
    if path.suffix == ".gguf":
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        require("gguf", GGUF)
        folder, extra = path.parent, {"gguf_file": path.name}
    elif path.is_dir():
        folder = path
    else:
        folder = download(model, revision, offline, ("config.json", "*.py"))
    with load_errors(model):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **extra)
    return path.resolve().name if path.exists() else model, build_empty(model, config, trust_remote_code)


def build_empty(name: str, config: Any, trust_remote_code: bool) -> PreTrainedModel:
    """Return a model without weights, on the meta device."""
    with load_errors(name), torch.device("meta"):
        model = auto_class(config).from_config(copy.deepcopy(config), trust_remote_code=trust_remote_code)
    return cast(PreTrainedModel, model.eval())


def auto_class(config: Any) -> Any:
    """Return what loads a checkpoint with this config: the causal language model, or the whole multimodal one.

    The whole one where the checkpoint says that it holds it, so that its tensors have the names of its modules.
    """
    if type(config) in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        whole = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING[type(config)].__name__
        if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING or whole in (config.architectures or ()):
            return AutoModelForImageTextToText
    return AutoModelForCausalLM


@contextmanager
def load_errors(name: str) -> Iterator[None]:
    """Turn what transformers raises while loading into one line that says what to do."""
    try:
        yield
    except (OSError, ValueError, KeyError, ImportError, RuntimeError) as error:
        message = first_line(error)
        if "trust_remote_code" in str(error):
            message = "its code is not part of transformers; read it, then pass --trust-remote-code to allow it"
        raise InputError(f"{name}: cannot be loaded: {message}") from error
