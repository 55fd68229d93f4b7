"""Where a model comes from: a Hub id, a local folder or a `.gguf` file becomes a checkpoint on disk, and its config
a model without weights."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

from abliterate.architectures.tying import APART_NOTE, stored_apart, untie
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.errors import AbliterateError, InputError, first_line
from abliterate.extras import require
from abliterate.hub.download import download
from abliterate.hub.names import cached_name, public_name, shown_name
from abliterate.models.config_limits import check_config
from abliterate.models.gguf import GGUF, check_metadata, from_gguf
from abliterate.progress import SILENT, Progress
from abliterate.storage.names import ADAPTER, CONFIG


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
    def empty(self) -> PreTrainedModel:
        """Return the model without weights, on the meta device: built once, and shared by all who ask, who change nothing.

        It ties head and embedding where the model that is loaded does. Raises InputError for an unknown model type or code
        that is not trusted.
        """
        return self._built[0]

    @property
    def apart(self) -> bool:
        """Whether the config ties the head, and the weights hold another one than the embedding (`architectures.tying`)."""
        return self._built[1]

    @property
    def oddities(self) -> tuple[str, ...]:
        """Return a line for each place where the files disagree that plain transformers loads all the same."""
        return (*self.checkpoint.oddities, *([APART_NOTE] if self.apart else []))

    @cached_property
    def _built(self) -> tuple[PreTrainedModel, bool]:
        config = read_config(self.name, self.folder, self.trust_remote_code)
        model = build_empty(self.name, config, self.trust_remote_code)
        apart = stored_apart(model, self.checkpoint)
        if apart:
            untie(model)
        return model, apart

    @property
    def public_name(self) -> str:
        """Return the Hub id, or the name of the local folder or file without where it lies."""
        return public_name(self.name)

    @property
    def shown_name(self) -> str:
        """Return `public_name` with the @revision that it was named with: what a command calls it, and a table."""
        return shown_name(self.name)

    def adapter_base(self, keep_path: bool = False) -> tuple[str, str | None]:
        """Return name and revision as the config of an adapter for this model names them.

        They load the model by themselves (`peft.AutoPeftModelForCausalLM`) where it is on the Hub, also where it was given
        as a folder of the Hub's cache. Any other folder is named without where it lies, unless `keep_path`.
        """
        cached = cached_name(self.folder)
        if cached is not None:
            return cached.repository, cached.revision
        if self.revision is None and keep_path:
            return str(self.folder.resolve()), None
        return self.public_name, self.revision


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

    Examples:
        >>> source = resolve(tiny)  # or org/name, org/name@revision, a .gguf file
        >>> source.public_name, len(source.checkpoint.tensors) > 0
        ('tiny-chat', True)
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
    checkpoint = Checkpoint.open(folder)
    if (folder / ADAPTER).is_file():  # what is measured would not be what is edited
        raise InputError(
            f"{model}: holds a model and, in {ADAPTER}, an adapter that a load puts on top of it; merge it, or move it away"
        )
    check_config(folder)
    _ = checkpoint.quantization  # which refuses what cannot be kept
    return Source(model, checkpoint, commit, trust_remote_code)


def load_tokenizer(source: Source, folder: Path | None = None) -> PreTrainedTokenizerBase:
    """Return the tokenizer of the source. Raises InputError where it cannot be loaded.

    Examples:
        >>> load_tokenizer(resolve(tiny)).chat_template is not None
        True
    """
    with load_errors(source.name):
        return cast(
            PreTrainedTokenizerBase,
            AutoTokenizer.from_pretrained(folder or source.folder, trust_remote_code=source.trust_remote_code),
        )


def resolve_config(
    model: str, *, revision: str | None = None, offline: bool = False, trust_remote_code: bool = False
) -> tuple[str, PreTrainedModel]:
    """Return the public name of a model, and the model without weights; of the Hub only small files are fetched.

    Whether its head is tied is told by the weights where they are at hand, else by the config.
    """
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
        folder = download(model, revision, offline, (CONFIG, "*.py"))
    if extra:
        with load_errors(model):
            check_metadata(path)
    else:
        check_config(folder)
    config = read_config(model, folder, trust_remote_code, **extra)
    empty = build_empty(model, config, trust_remote_code)
    if path.is_dir() and any(path.glob("*.safetensors")) and stored_apart(empty, Checkpoint.open(path)):
        untie(empty)
    return public_name(model), empty


def read_config(name: str, folder: Path, trust_remote_code: bool, **extra: Any) -> Any:
    """Return the config in a folder.

    Raises InputError for an unknown model type, and for code that is not trusted: of the model, or compiled, which a
    config can name as its attention.
    """
    with load_errors(name):
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code, **extra)
    waiting = [config]
    while waiting:
        one = waiting.pop()
        kernel = getattr(one, "_attn_implementation", None)
        if isinstance(kernel, str) and "/" in kernel and not trust_remote_code:
            raise InputError(
                f"{name}: its config asks for the kernel {kernel} of the Hub, which is compiled code; look at it, then pass "
                "--trust-remote-code to allow it"
            )
        waiting += [part for key in getattr(one, "sub_configs", {}) if (part := getattr(one, key, None)) is not None]
    return config


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
    except (AbliterateError, MemoryError):
        raise
    except Exception as error:
        message = first_line(error)
        if not isinstance(error, OSError | ValueError | KeyError | ImportError | RuntimeError):
            message = f"{type(error).__name__}: {message}; its config.json or tokenizer may be damaged"
        if "trust_remote_code" in str(error):
            message = "its code is not part of transformers; read it, then pass --trust-remote-code to allow it"
        raise InputError(f"{name}: cannot be loaded: {message}") from error
