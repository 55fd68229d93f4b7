"""The live model of a checkpoint: on which device, in which dtype, dequantised, all of it in memory or streaming."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from transformers import PreTrainedModel

from abliterate.architectures.tying import untie_config
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.partial_blocks import dequantized_here, dequantized_weights, without_quantisation
from abliterate.checkpoints.quantized_weight import quantised_tensors
from abliterate.errors import CheckpointError, InputError
from abliterate.models.dtypes import DTYPE_NAMES, read_dtype
from abliterate.models.offload import Offload, place_layers, room_left, sizes_of, watch, working_folder
from abliterate.models.source import Source, auto_class, load_errors, read_config
from abliterate.parallel.devices import choose_device, computes_in
from abliterate.storage.cache import cache_folder

DTYPE_WORDS: Mapping[str, torch.dtype] = {word: getattr(torch, name) for word, name in DTYPE_NAMES.items()}
"""The words for a dtype, beside `auto`, that every flag takes."""


def load_model(
    source: Source,
    dtype: str = "auto",
    device: str = "auto",
    checkpoint: Checkpoint | None = None,
    max_memory: int | None = None,
) -> PreTrainedModel:
    """Return the live model, from the source's checkpoint or from another copy of it (`checkpoint`).

    Where it does not fit the device, or `max_memory` bytes of main memory, decoder layers stay on the disk and stream
    (`offload`). Raises InputError for an unknown dtype or device and where not even that fits, CheckpointError when a
    tensor that the model needs is missing.

    Examples:
        >>> loaded = load_model(resolve(tiny), dtype="float32")
        >>> loaded.dtype, loaded.training
        (torch.float32, False)
    """
    place = choose_device(device)
    wanted = choose_dtype(source, dtype, place, max_memory)
    offload = plan_offload(source, wanted, place, max_memory)
    return load_placed(source, wanted, place, offload, checkpoint)


def load_placed(
    source: Source,
    dtype: torch.dtype,
    device: torch.device,
    offload: Offload | None,
    checkpoint: Checkpoint | None = None,
) -> PreTrainedModel:
    """Do `load_model` once it is decided what lives where: all of it on the device, without `offload`."""
    files = checkpoint or source.checkpoint
    extra: dict[str, Any] = {"device_map": str(device)}
    folder = None
    if offload is not None:
        if dequantized_here(files):
            raise InputError(
                f"{source.name}: does not fit into memory, and with quantised weights that transformers does not read "
                "it cannot stream; use more --max-memory, or the unquantised checkpoint"
            )
        folder = working_folder(cache_folder() / "offload")
        extra = {"device_map": dict(offload.device_map), "offload_folder": str(folder)}
    config = read_config(source.name, files.folder, source.trust_remote_code)
    with load_errors(source.name):
        if source.apart:
            untie_config(source.empty, config)  # what is half on the disk transformers cannot compare
        loader, given = dequantized(source, config, files, dtype)
        model, report = loader.from_pretrained(
            **given,
            dtype=dtype,
            trust_remote_code=source.trust_remote_code,
            local_files_only=True,
            output_loading_info=True,
            **extra,
        )
    if report["missing_keys"]:
        names = sorted(report["missing_keys"])
        raise CheckpointError(
            f"{files.folder}: {len(names)} tensors that the model needs are missing (for one: {names[0]}); download it again"
        )
    if quantised_tensors(files):
        cast_plain(model, dtype)
    if offload is not None and folder is not None:
        watch(model, offload, folder)
    return cast(PreTrainedModel, model.eval())


def plan_offload(source: Source, dtype: torch.dtype, device: torch.device, max_memory: int | None) -> Offload | None:
    """Return where the parts of the model go, None when all of it fits. Raises InputError when nothing does."""
    memory = room_left(max_memory)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else memory
    return place_layers(source.empty, sizes_of(source.empty, dtype), device, free, memory)


def cast_plain(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Give all parameters one dtype: where transformers dequantises, it leaves the other weights in that of the disk."""
    kept = (*(model._keep_in_fp32_modules or ()), *(model._keep_in_fp32_modules_strict or ()))
    for name, parameter in model.named_parameters():
        if not any(part in name for part in kept):
            parameter.data = parameter.data.to(dtype)


def dequantized(source: Source, config: Any, files: Checkpoint, dtype: torch.dtype) -> tuple[Any, dict[str, Any]]:
    """Return what loads `files`, and what to tell it so that quantised weights, if there are any, are dequantised."""
    if dequantized_here(files):
        plain, weights = without_quantisation(config), dequantized_weights(files, dtype)
        loader = type(source.empty)  # weights alone: no auto class takes them
        return loader, {"pretrained_model_name_or_path": None, "config": plain, "state_dict": weights}
    for part in (config, config.get_text_config(decoder=True)):
        listed = getattr(part, "quantization_config", None)
        if listed:
            part.quantization_config = {**listed, "dequantize": True}
    return auto_class(config), {"pretrained_model_name_or_path": files.folder, "config": config}


def choose_dtype(source: Source, dtype: str, device: torch.device, max_memory: int | None = None) -> torch.dtype:
    """Return the dtype to run in; `auto` is that of the checkpoint, or float32 where `device` only imitates that one.

    Not where float32, twice as large, does not fit into memory.
    """
    if dtype != "auto":
        return DTYPE_WORDS[dtype_name("--dtype", dtype)]
    stored = stored_dtype(source)
    if computes_in(stored, device):
        return stored
    fits = sizes_of(source.empty, torch.float32).fit(room_left(max_memory))
    return torch.float32 if fits else stored


def stored_dtype(source: Source) -> torch.dtype:
    """Return the dtype of most of the checkpoint's bytes, quantised weights apart. Raises InputError for none to run in."""
    sizes: dict[torch.dtype, int] = {}
    quantised = quantised_tensors(source.checkpoint)
    for entry in source.checkpoint.tensors.values():
        if entry.name not in quantised:
            sizes[entry.torch_dtype] = sizes.get(entry.torch_dtype, 0) + entry.nbytes
    found = max(sizes, key=lambda one: sizes[one], default=torch.bfloat16)
    if found not in DTYPE_WORDS.values():
        raise InputError(f"{source.name}: stores {found}; pass --dtype bfloat16 or float32 to run it")
    return found


def dtype_name(flag: str, word: str) -> str:
    """Return torch's name of the dtype that a word stands for, or `auto`. Raises InputError for an unknown word."""
    try:
        return read_dtype(word)
    except ValueError as error:
        raise InputError(f"{flag} {word}: {error}") from None
