"""A PEFT adapter: which model it belongs to, and on the live model, put there once, switched on and off."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from transformers import PreTrainedModel

from abliterate.errors import AbliterateError, InputError, first_line
from abliterate.extras import missing, require
from abliterate.hub.download import download
from abliterate.models.adapter_config import check_adapter_config, read_adapter_config
from abliterate.models.gguf import GGUF
from abliterate.models.offload import streaming_of
from abliterate.storage.names import ADAPTER, ADAPTER_WEIGHTS

ADAPTER_FILES = (ADAPTER, ADAPTER_WEIGHTS)

READING = "reading an adapter"
"""What needs the `train` extra here."""


def adapter_folder(name: str, revision: str | None = None, offline: bool = False) -> Path | None:
    """Return the folder of the adapter that a folder or Hub id names, None where it names anything else.

    Raises InputError and HubError as `source.resolve` for what is not there.
    """
    path = Path(name).expanduser()
    if path.suffix == ".gguf" or path.is_file():
        return None
    folder = path if path.is_dir() else download(name, revision, offline, ADAPTER_FILES)
    return folder if (folder / ADAPTER).is_file() else None


def require_readable(name: str, revision: str | None = None, offline: bool = False) -> None:
    """Raise InputError when what `name` names needs an extra that is missing: known before another model is loaded."""
    if Path(name).suffix == ".gguf":
        require("gguf", GGUF)
    elif missing("train", "peft") and adapter_folder(name, revision, offline) is not None:
        require("train", READING, "peft")


def base_of(folder: Path) -> str:
    """Return the model that an adapter says it belongs to. Raises InputError when it does not say."""
    name = read_adapter_config(folder).get("base_model_name_or_path")
    if name is not None and not isinstance(name, str):
        raise InputError(f"{folder / ADAPTER}: base_model_name_or_path should be text; pass the model with --against")
    if not name:
        raise InputError(f"{folder}: is an adapter that does not name its model; pass it with --against")
    return str(name)


def attach(model: PreTrainedModel, folder: Path) -> None:
    """Put an adapter on `model`, switched off. Raises InputError when it does not fit, or without the `peft` package."""
    require("train", READING, "peft")
    if streaming_of(model) is not None:
        raise InputError(
            f"{folder}: the model does not fit into memory, and with an adapter it cannot stream from the disk"
        )
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise InputError(f"{folder}: has no {ADAPTER_WEIGHTS}; only safetensors are read")
    check_adapter_config(folder, model)
    try:
        with warnings.catch_warnings():
            # Of tied embeddings it warns because of merging; here both roles have a factor of their own, side by side.
            warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
            # Of a bias where the layer has none it warns for the same reason.
            warnings.filterwarnings("ignore", message="`lora_bias=True` was passed but the targeted layer")
            report = model.load_adapter(str(folder))
    except (AbliterateError, MemoryError):
        raise
    except Exception as error:
        raise InputError(
            f"{folder}: the adapter does not fit the model ({first_line(error)}); check --against"
        ) from error
    wrong = sorted(report.missing_keys) + sorted(report.unexpected_keys)
    if wrong:
        raise InputError(f"{folder}: the adapter does not fit the model (for one: {wrong[0]}); check --against")
    model.disable_adapters()


@contextmanager
def adapter_on(model: PreTrainedModel) -> Iterator[None]:
    """Inside the context, the adapter is part of the model."""
    model.enable_adapters()
    try:
        yield
    finally:
        model.disable_adapters()
