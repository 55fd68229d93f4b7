"""Where a model comes from: a Hub id, a local folder or a `.gguf` file becomes a checkpoint on disk, and a live model."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, cast

import huggingface_hub
import psutil
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

from abliterate.checkpoint import Checkpoint, content_hash
from abliterate.errors import CheckpointError, HubError, InputError
from abliterate.progress import SILENT, Progress
from abliterate.quantized import format_of, quantized_pairs
from abliterate.ragged import dequantized_weights, ragged, without_quantisation

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}

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
        path = Path(self.name).expanduser()
        return path.resolve().name if path.exists() else self.name


def cache_folder() -> Path:
    """Return the folder for activations and dequantised GGUF files: `$ABLITERATE_CACHE`, else the user's cache."""
    own = os.environ.get("ABLITERATE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(base) if base else Path.home() / ".cache") / "abliterate"


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
    if find_spec("gguf") is None:
        raise InputError("reading .gguf files needs an extra: pip install 'abliterate[gguf]'")
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


def load_model(
    source: Source, dtype: str = "auto", device: str = "auto", checkpoint: Checkpoint | None = None
) -> PreTrainedModel:
    """Return the live model, from the source's checkpoint or from another copy of it (`checkpoint`).

    Raises InputError for an unknown dtype or device and for too little memory, CheckpointError when a tensor
    that the model needs is missing.
    """
    files = checkpoint or source.checkpoint
    place = choose_device(device)
    wanted = choose_dtype(source, dtype)
    check_memory(files, wanted, place)
    with load_errors(source.name):
        config = AutoConfig.from_pretrained(files.folder, trust_remote_code=source.trust_remote_code)
        loader, given = dequantized(source, config, files, wanted)
        model, report = loader.from_pretrained(
            **given,
            dtype=wanted,
            device_map=str(place),
            trust_remote_code=source.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
        )
    if report["missing_keys"]:
        names = sorted(report["missing_keys"])
        raise CheckpointError(
            f"{files.folder}: {len(names)} tensors that the model needs are missing (for one: {names[0]}); download it again"
        )
    if quantised_tensors(files):
        cast_plain(model, wanted)
    return cast(PreTrainedModel, model.eval())


def cast_plain(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give all parameters one dtype: where transformers dequantises, it leaves the other weights in that of the disk."""
    kept = (*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ()))
    for name, parameter in model.named_parameters():
        if not any(part in name for part in kept):
            parameter.data = parameter.data.to(dtype)


def dequantized(source: Source, config: Any, files: Checkpoint, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """Return what loads `files`, and what to tell it so that quantised weights, if there are any, are dequantised."""
    if ragged(files):
        plain, weights = without_quantisation(config), dequantized_weights(files, dtype)
        loader = type(
            build_empty(source.name, plain, source.trust_remote_code)
        )  # weights alone: no auto class takes them
        return loader, {"pretrained_model_name_or_path": None, "config": plain, "state_dict": weights}
    for part in (config, config.get_text_config(decoder=True)):
        listed = getattr(part, "quantization_config", None)
        if listed:
            part.quantization_config = {**listed, "dequantize": True}
    return auto_class(config), {"pretrained_model_name_or_path": files.folder, "config": config}


def choose_device(device: str) -> torch.device:
    """Return the device; `auto` is the first accelerator, else the CPU. Raises InputError when it is not there."""
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"--device {device}: not on this machine ({first_line(error)}); use auto or cpu") from error
    return torch.device(device)


def quantised_tensors(checkpoint: Checkpoint) -> dict[str, int]:
    """Return the tensors of quantised weights, and how many numbers of a weight an element of each stands for."""
    format, found = quantized_pairs(checkpoint.folder, checkpoint.tensors.keys())
    each = 2 if format and format.packed else 1
    return {one.values: each for one in found} | {one.scales: 0 for one in found}


def choose_dtype(source: Source, dtype: str) -> torch.dtype:
    """Return the dtype to run in; `auto` is that of most of the checkpoint's bytes, quantised weights apart."""
    if dtype == "auto":
        sizes: dict[torch.dtype, int] = {}
        quantised = quantised_tensors(source.checkpoint)
        for entry in source.checkpoint.tensors.values():
            if entry.name not in quantised:
                sizes[entry.torch_dtype] = sizes.get(entry.torch_dtype, 0) + entry.nbytes
        found = max(sizes, key=lambda one: sizes[one], default=torch.bfloat16)
        if found not in DTYPES.values():
            raise InputError(f"{source.name}: stores {found}; pass --dtype bfloat16 or float32 to run it")
        return found
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: unknown; choose auto, {', '.join(DTYPES)}")
    return DTYPES[dtype]


def check_memory(checkpoint: Checkpoint, dtype: torch.dtype, device: torch.device) -> None:
    """Raise InputError when the weights alone do not fit the device's free memory."""
    quantised = quantised_tensors(checkpoint)
    numbers = {
        entry.name: quantised.get(entry.name, 1) * entry.nbytes // entry.torch_dtype.itemsize
        for entry in checkpoint.tensors.values()
    }
    needed = sum(numbers.values()) * dtype.itemsize
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"the weights need {needed / 1e9:.1f} GB on {device}, {free / 1e9:.1f} GB are free; "
            "use a smaller --dtype, another --device or a smaller model"
        )


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


def first_line(error: BaseException) -> str:
    """Return the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
