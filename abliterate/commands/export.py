"""`abliterate export`: an edit in other forms: a PEFT adapter, an adapter for llama.cpp, a control vector."""

from __future__ import annotations

import gc
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from abliterate.directions.files import load_differences
from abliterate.errors import InputError
from abliterate.exports.control_vector import write_control_vector
from abliterate.exports.forms import ExportForm
from abliterate.exports.gguf_adapter import write_gguf_adapter
from abliterate.exports.peft_adapter import prepare_adapter, write_files
from abliterate.extras import require
from abliterate.models.adapter import attach
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer
from abliterate.parallel.devices import choose_device
from abliterate.pipeline.conditions import carry
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.open_edit import EditFiles, OpenedEdit, open_edit
from abliterate.pipeline.open_model import open_config, open_source
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT, Progress
from abliterate.proofs.stream import StreamReport, plain_sequences, reference, verify_stream
from abliterate.records.manifest import Measured, Origin, check_source, write_records
from abliterate.storage.names import DIRECTIONS
from abliterate.storage.staging import Staging, check_free


@dataclass(frozen=True)
class Exported:
    """What was written, its size, and the proof where there is one: of files for llama.cpp the tests hold it."""

    out: Path
    kind: ExportForm
    nbytes: int
    proof: StreamReport | None = None
    notes: tuple[str, ...] = ()


def export(export_options: ExportOptions, options: Options, progress: Progress = SILENT) -> Exported:
    """Write the edit in another form to `options.out`; `options.model` is the original, or empty for the manifest's.

    Raises InputError where the form cannot hold the edit, the original is another one, or the destination exists.
    """
    check_free(options.out, options.force)
    if export_options.kind == "adapter":
        require("train", "--to adapter", "peft")
    else:
        require("gguf", f"--to {export_options.kind}", "gguf")
    if export_options.kind == "control-vector":
        return control_vector(export_options, options)
    manifest = export_options.manifest
    options = with_original(options, manifest)
    source = open_source(options, progress)
    if manifest is not None:
        check_source(export_options.folder, manifest.get("source", {}), source, progress)
    plain = replace(options, edited_dtype=None)  # which says how a checkpoint is written
    opened = open_edit(plain, EditFiles.of(export_options.edit), progress, source)
    if export_options.kind == "gguf-adapter":
        written = write_gguf_adapter(
            opened.plan,
            source.checkpoint,
            opened.model.architecture,
            options.out,
            base=export_options.base,
            leave_out=export_options.leave_out,
            force=options.force,
            progress=progress,
        )
        left = f"left out: {', '.join(written.left_out)}"
        return Exported(options.out, export_options.kind, written.nbytes, notes=(left,) if written.left_out else ())
    return peft_adapter(export_options, options, opened, progress)


def peft_adapter(export_options: ExportOptions, options: Options, opened: OpenedEdit, progress: Progress) -> Exported:
    """Write a PEFT adapter with its records, once the original with it is proved to be the hook form."""
    plan, source, empty, architecture = (
        opened.plan,
        opened.model.source,
        opened.model.empty,
        opened.model.architecture,
    )
    files = prepare_adapter(plan, empty, architecture, source.checkpoint, source.public_name, source.revision)
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    expected = reference(model, architecture, plan, plain_sequences(load_tokenizer(source)))
    identity = f"adapter {plan.digest} {source.checkpoint.fingerprint()}"
    with Staging.open(options.out, identity, options.force, files.nbytes) as staging:
        write_files(files, empty, source.checkpoint, staging, progress)
        attach(model, staging.folder)
        model.enable_adapters()
        proof = verify_stream(model, architecture, plan, expected, model.dtype)
        del model
        gc.collect()
        words = ["abliterate", "export", ".", "--to", "adapter", "--model", source.public_name]
        words += ["--out", options.out.name]
        run, device = carry(export_options.folder, staging), choose_device(options.device)
        origin = Origin(source, words, options.seed, device, form="adapter", run=run)
        write_records(staging, origin, plan, export_options.folder / DIRECTIONS, Measured((), proof))
        staging.publish()
    size = sum(path.stat().st_size for path in options.out.iterdir())
    return Exported(options.out, export_options.kind, size, proof)


def control_vector(export_options: ExportOptions, options: Options) -> Exported:
    """Write the differences in means, at the layer of the edit unless others are asked for."""
    manifest = export_options.manifest
    options = with_original(options, manifest)
    _, empty = open_config(options)
    layers = export_options.layers
    if layers is None:
        layer = (manifest or {}).get("direction", {}).get("layer")
        if layer is None:
            raise InputError(
                f"{export_options.edit}: does not say which layer its direction is of; choose one with --layer"
            )
        layers = (layer,)
    found = load_differences(export_options.folder / DIRECTIONS)
    write_control_vector(found, empty.config, options.out, layers=layers, force=options.force)
    return Exported(options.out, export_options.kind, options.out.stat().st_size)


def with_original(options: Options, manifest: Mapping[str, Any] | None) -> Options:
    """Return the options with the original: the one that was given, else the manifest's on the Hub, at its commit.

    Raises InputError without either.
    """
    if options.model:
        return options
    made_from = (manifest or {}).get("source", {})
    name = made_from.get("model")
    if not isinstance(name, str) or not name:
        raise InputError("an edit is exported from its original; say where it is with --model")
    if "/" not in name:
        raise InputError(f"the original {name} is not on the Hub; say where it is with --model")
    return replace(options, model=name, revision=options.revision or made_from.get("revision"))


def save_others(options: Options, progress: Progress = SILENT) -> tuple[Exported, ...]:
    """Write what `--save` asks for beside the form that a run has written and measured, into that form's folder."""
    measured = "checkpoint" if "checkpoint" in options.save else "adapter"
    names: dict[str, ExportForm] = {"adapter": "adapter", "adapter.gguf": "gguf-adapter"}
    return tuple(
        export(ExportOptions(options.out, kind), replace(options, out=options.out / name), progress)
        for name, kind in names.items()
        if kind in options.save and kind != measured
    )
