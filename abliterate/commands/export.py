"""`abliterate export`: an edit in other forms: a PEFT adapter, an adapter for llama.cpp, a control vector."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor
from transformers import PretrainedConfig

from abliterate.architectures.sites import Site
from abliterate.directions.files import load_differences
from abliterate.errors import InputError
from abliterate.exports.forms import EXPORT_FORMS, LEAVING_OUT, PlannedEdit
from abliterate.models.adapter import attach
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer
from abliterate.parallel.devices import choose_device
from abliterate.pipeline.conditions import carry
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.open_edit import EditFiles, open_edit, with_original
from abliterate.pipeline.open_model import open_config, open_source
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT, Progress
from abliterate.proofs.stream import StreamReport, plain_sequences, reference, verify_stream
from abliterate.records.manifest import Measured, Origin, check_source, part, write_records
from abliterate.storage.names import DIRECTIONS
from abliterate.storage.staging import Staging, check_free


@dataclass(frozen=True)
class Exported:
    """What was written, its size, and the proof where there is one: of files for llama.cpp the tests hold it."""

    out: Path
    kind: str
    nbytes: int
    proof: StreamReport | None = None
    notes: tuple[str, ...] = ()


def export(export_options: ExportOptions, options: Options, progress: Progress = SILENT) -> Exported:
    """Write the edit in another form to `options.out`; `options.model` is the original, or empty for the manifest's.

    Raises InputError where the form cannot hold the edit, the original is another one, or the destination exists.
    """
    form = EXPORT_FORMS[export_options.kind]
    form.require(f"--to {export_options.kind}")
    if form.folder:
        check_free(options.out, options.force)
    elif os.path.lexists(options.out) and not options.force:
        raise InputError(f"{options.out} exists; pass --force to replace it, or choose another --out")
    written = form.write(OpenedExport(export_options, options, progress))
    size = sum(path.stat().st_size for path in (options.out.iterdir() if form.folder else [options.out]))
    return Exported(options.out, export_options.kind, size, written.proof, written.notes)


@dataclass(frozen=True)
class OpenedExport:
    """What forms ask for (`exports.forms.Export`), opened when one does."""

    export_options: ExportOptions
    options: Options
    progress: Progress

    @property
    def out(self) -> Path:
        """Where the file or folder shall be."""
        return self.options.out

    @property
    def force(self) -> bool:
        """Whether it may be replaced."""
        return self.options.force

    @property
    def leave_out(self) -> tuple[Site, ...]:
        """Sites that the user leaves out."""
        return self.export_options.leave_out

    @property
    def keep_paths(self) -> bool:
        """Whether an adapter may name its model by a path of this machine."""
        return self.options.keep_paths

    @property
    def base(self) -> Path | None:
        """The GGUF file that the form goes with."""
        return self.export_options.base

    def planned(self) -> PlannedEdit:
        """Open the original, prove its architecture and resolve the edit on it."""
        manifest, folder = self.export_options.manifest, self.export_options.folder
        options = with_original(self.options, manifest)
        source = open_source(options, self.progress)
        if manifest is not None:
            check_source(folder, part(manifest, "source"), source, self.progress)
        opened = open_edit(options, EditFiles.of(self.export_options.edit), self.progress, source)
        return PlannedEdit(opened.plan, opened.model.architecture, source)

    def differences(self) -> tuple[Mapping[int, Tensor], tuple[int, ...], PretrainedConfig]:
        """Return the differences in means by layer, the layers that are asked for, and the original's config."""
        manifest = self.export_options.manifest
        options = with_original(self.options, manifest)
        _, empty = open_config(options)
        layers = self.export_options.layers
        if layers is None:
            layer = part(manifest or {}, "direction").get("layer")
            names = part(manifest or {}, "recipe").get("directions")
            if names:
                raise InputError(
                    f"{self.export_options.edit}: takes {len(names)} directions out of the weights, and a control vector adds "
                    "one difference in means a layer; choose layers with --layer, or export --to gguf-adapter, which holds all"
                )
            if layer is None:
                raise InputError(
                    f"{self.export_options.edit}: does not say which layer its direction is of; choose one with --layer"
                )
            layers = (layer,)
        named = next(iter(EditFiles.of(self.export_options.edit).recipe.names), "")
        return load_differences(self.export_options.folder / DIRECTIONS, named), layers, empty.config

    def as_adapter(self, edit: PlannedEdit, nbytes: int, write: Callable[[Staging], None]) -> StreamReport:
        """Write a PEFT adapter folder with its records, once the original with it is proved to be the hook form."""
        options, plan, source, folder = self.options, edit.plan, edit.source, self.export_options.folder
        model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
        expected = reference(model, edit.architecture, plan, plain_sequences(load_tokenizer(source)))
        identity = f"adapter {plan.digest} {source.checkpoint.fingerprint()}"
        with Staging.open(options.out, identity, options.force, nbytes) as staging:
            write(staging)
            attach(model, staging.folder)
            model.enable_adapters()
            proof = verify_stream(model, edit.architecture, plan, expected, model.dtype)
            del model
            gc.collect()
            words = ["abliterate", "export", ".", "--to", self.export_options.kind, "--model", source.shown_name]
            words += ["--out", options.out.name]
            run, device = carry(folder, staging), choose_device(options.device)
            origin = Origin(source, words, options.seed, device, form="adapter", run=run)
            write_records(staging, origin, plan, folder / DIRECTIONS, Measured((), proof))
            staging.publish()
        return proof


def save_others(options: Options, progress: Progress = SILENT) -> tuple[Exported, ...]:
    """Write what `--save` asks for beside the form that a run has written and measured, into that form's folder."""
    measured = "checkpoint" if "checkpoint" in options.save else "adapter"
    others = {kind: form.saved_as for kind, form in EXPORT_FORMS.items() if kind in options.save and kind != measured}
    return tuple(
        export(
            ExportOptions(options.out, kind, options.leave_out if kind == LEAVING_OUT else ()),
            replace(options, out=options.out / name),
            progress,
        )
        for kind, name in others.items()
        if name is not None
    )
