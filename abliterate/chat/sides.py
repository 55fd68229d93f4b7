"""What stands on each side of a comparison: an edited model and its original, in one model's memory where that can be.

An edit that abliterate wrote is `recipe.json` and `directions.safetensors`: the original under hooks is the edited
model. An adapter is switched on and off. Only what is neither is loaded beside the original.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.hub.download import download
from abliterate.hub.names import public_name, shown_name
from abliterate.interventions import hook_form
from abliterate.interventions.recipe import Recipe
from abliterate.models.adapter import ADAPTER_FILES, READING, adapter_on, attach, base_of, require_readable
from abliterate.models.loading import choose_dtype, load_model, plan_offload
from abliterate.models.offload import DEFAULT_TOKENS, room_left, sizes_of, streaming_of
from abliterate.models.same_tokens import Unloaded, check_alike
from abliterate.models.source import Source, load_tokenizer
from abliterate.parallel.devices import choose_device
from abliterate.pipeline.open_edit import EditFiles
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.open_prompts import open_chat
from abliterate.pipeline.options import AskOptions
from abliterate.progress import SILENT, Progress
from abliterate.prompts.chat_format import ChatFormat
from abliterate.records.manifest import check_source, manifest_beside, part, read_manifest
from abliterate.storage.names import ADAPTER, DIRECTIONS, MANIFEST, RECIPE

SideRole = Literal["edited", "original"]

SIDE_ROLES: tuple[SideRole, SideRole] = ("original", "edited")

HELLO = "Hello"
"""A prompt to try a template with."""

EDIT_RECORDS = (MANIFEST, RECIPE, DIRECTIONS)
"""What is fetched of an edited repository first: where that is an edit of the original, its weights are not needed."""


@dataclass(frozen=True)
class HookedEdit:
    """An edit as hooks on its original, with what others on the same weights are made of; `basis` is `[k, d_model]`."""

    model: PreTrainedModel
    basis: Tensor
    recipe: Recipe
    architecture: Architecture

    def active(self) -> AbstractContextManager[object]:
        """Return the context in which the model is the edited one."""
        return hook_form(self.model, self.basis, self.recipe, self.architecture)


@dataclass(frozen=True)
class ChatSide:
    """One side: what it is called, the model that it computes with, and the context in which that is the side's own.

    `edit` is what the context is made of, where it is hooks.
    """

    role: SideRole
    name: str
    model: PreTrainedModel
    chat: ChatFormat
    active: Callable[[], AbstractContextManager[object]] = nullcontext
    edit: HookedEdit | None = None

    def under(self, edit: HookedEdit) -> ChatSide:
        """Return the side with another edit on the same model. Raises InputError where that does not fit it."""
        with edit.active():  # what does not fit the model says so now
            pass
        return replace(self, active=edit.active, edit=edit)


@dataclass(frozen=True)
class ChatSides:
    """One side, or the original and the edited one; `note` says in a line what was loaded."""

    sides: tuple[ChatSide, ...]
    note: str

    @property
    def parameter_bytes(self) -> int:
        """Return the bytes of all weights in memory, each counted once."""
        storages = {
            one.untyped_storage().data_ptr(): one.untyped_storage().nbytes()
            for side in self.sides
            for one in side.model.parameters()
        }
        return sum(storages.values())


def open_sides(options: AskOptions, against: str | None, progress: Progress = SILENT) -> ChatSides:
    """Load `options.model`, and `against` beside it where one is given.

    Raises InputError where the edit was not made from `against`, an adapter does not fit its base, or two models are
    needed and memory holds one.
    """
    for name in [options.model, *([against] if against is not None else [])]:
        require_readable(name, options.revision if name == options.model else None, options.offline)
    folder = records_of(options, against is not None)
    if folder is not None and (folder / ADAPTER).is_file():
        return with_adapter(options, folder, against or base_of(folder), against is not None, progress)
    if against is None:
        source = resolve_side(options, options.model, progress)
        side = load_side("edited", source, options)
        kept = "; its layers stream from the disk" if streaming_of(side.model) else ""
        return ChatSides((side,), f"one model in memory: {source.public_name}{kept}")
    if folder is None or not (folder / RECIPE).is_file():
        return with_both(options, against, progress, f"has no {RECIPE}")
    form = EditFiles.of(folder).recipe.form
    if form != "projection":
        return with_both(options, against, progress, f"is edited in the form {form}, which hooks cannot be")
    return with_hooks(options, folder, against, progress)


def records_of(options: AskOptions, enough: bool) -> Path | None:
    """Return the folder with what is known of the edited model, None for a single file.

    Of a Hub repository, only small files are fetched where they may be `enough`.
    """
    path = Path(options.model).expanduser()
    if path.is_dir():
        return path
    if path.exists() or path.suffix == ".gguf":
        return None
    return download(
        options.model, options.revision, options.offline, (*ADAPTER_FILES, *(EDIT_RECORDS if enough else ()))
    )


def resolve_side(options: AskOptions, model: str, progress: Progress, revision: str | None = None) -> Source:
    """Find a side's checkpoint; `--revision` is that of the edited model, or of the original where that one is local."""
    local = Path(options.model).expanduser().exists()
    own = options.revision if model == options.model or local else None
    return open_source(replace(options, model=model, revision=own or revision), progress)


def load_side(role: SideRole, source: Source, options: AskOptions) -> ChatSide:
    """Load a model with its own tokenizer and template."""
    chat = open_chat(options, load_tokenizer(source), tried=HELLO)
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    return ChatSide(role, source.public_name, model, chat)


def with_hooks(options: AskOptions, folder: Path, against: str, progress: Progress) -> ChatSides:
    """Load the original alone; under hooks it is the edited model, whatever the strengths."""
    manifest = read_manifest(folder)
    edit = EditFiles.of(folder)
    if edit.recipe.to_json() != manifest.get("recipe"):
        raise InputError(f"{folder / RECIPE}: is not the recipe that {MANIFEST} names; edit the original again")
    made_from = part(manifest, "source")
    recorded = made_from.get("revision") if made_from.get("model") == public_name(against) else None
    source = resolve_side(options, against, progress, recorded)
    check_source(folder, made_from, source, progress)
    basis = edit.basis
    architecture = find_architecture(source.empty, not part(manifest, "proof").get("holds", True))
    original = load_side("original", source, options)
    hooked = HookedEdit(original.model, basis, edit.recipe, architecture)
    edited = replace(original, role="edited", name=shown_name(options.model)).under(hooked)
    return ChatSides((original, edited), "one model in memory, the edit as hooks")


def with_adapter(options: AskOptions, folder: Path, base: str, compare: bool, progress: Progress) -> ChatSides:
    """Load the base once, with the adapter on it that is switched on for one side."""
    require("train", READING, "peft")
    source = resolve_side(options, base, progress)
    manifest = manifest_beside(folder)
    if manifest is not None:
        check_source(folder, part(manifest, "source"), source, progress)
    device = choose_device(options.device)
    if plan_offload(
        source, choose_dtype(source, options.dtype, device, options.max_memory), device, options.max_memory
    ):
        raise InputError(f"{base}: does not fit into memory, and with an adapter it cannot stream from the disk")
    original = load_side("original", source, options)
    attach(original.model, folder)
    name = shown_name(options.model)
    edited = replace(original, role="edited", name=name, active=partial(adapter_on, original.model))
    if not compare:
        return ChatSides((edited,), f"one model in memory: {source.public_name} with the adapter")
    return ChatSides((original, edited), "one model in memory, the adapter on and off")


def with_both(options: AskOptions, against: str, progress: Progress, why: str) -> ChatSides:
    """Load both, where memory holds both: `why` hooks on one of them do not make the other."""
    sources = [resolve_side(options, name, progress) for name in (against, options.model)]
    first, second = (Unloaded(source.public_name, source) for source in sources)
    check_alike(first, second, [open_chat(options, first.tokenizer).render(HELLO)])
    check_room(sources, options)
    original, edited = (load_side(role, source, options) for role, source in zip(SIDE_ROLES, sources, strict=True))
    return ChatSides((original, edited), f"two models in memory: {shown_name(options.model)} {why}")


def check_room(sources: list[Source], options: AskOptions) -> None:
    """Raise InputError when two models do not fit the device together."""
    device = choose_device(options.device)
    sizes = [
        sizes_of(source.empty, choose_dtype(source, options.dtype, device, options.max_memory)) for source in sources
    ]
    needed = sum(size.whole for size in sizes) + DEFAULT_TOKENS * max(size.token for size in sizes)
    free = torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else room_left(options.max_memory)
    if needed > free:
        raise InputError(
            f"two models need {needed / 1e9:.1f} GB on {device}, {max(0, free) / 1e9:.1f} GB are free; chat without "
            "--against, or with a folder that abliterate wrote: that takes the memory of one"
        )
