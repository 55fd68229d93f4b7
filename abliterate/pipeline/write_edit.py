"""An opened edit as a checkpoint on the disk, proved: what `apply` and `pick` do once it is clear which edit."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from abliterate.checkpoints.other_files import left_behind_note
from abliterate.edits.tensor_edits import TensorReport
from abliterate.edits.write import write_edited
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer
from abliterate.parallel.devices import choose_device
from abliterate.pipeline.conditions import carry
from abliterate.pipeline.open_edit import OpenedEdit
from abliterate.pipeline.options import Options
from abliterate.progress import Progress
from abliterate.proofs.stream import StreamReport, plain_sequences, reference, requantised_note, verify_stream
from abliterate.proofs.tensors import verify_tensors
from abliterate.records.manifest import Measured, Origin, write_records
from abliterate.search.found_file import save_found
from abliterate.search.stages import SearchResult
from abliterate.storage.names import SEARCH
from abliterate.storage.staging import Staging


@dataclass(frozen=True)
class WrittenEdit:
    """A checkpoint that was written from a known edit: what the proof says. Nothing was measured."""

    out: Path
    tensors: tuple[TensorReport, ...]
    proof: StreamReport
    untouched: int
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Taken:
    """The run that an edit was taken from: its folder, and what its search found, with the point that is taken now."""

    folder: Path
    found: SearchResult


def write_edit(
    opened: OpenedEdit, options: Options, words: Sequence[str], progress: Progress, taken: Taken | None = None
) -> WrittenEdit:
    """Write the edit to `options.out` whole or not at all, prove tensors and stream, and record the command `words`.

    Raises AbliterateError as `pipeline.run` does.
    """
    plan, architecture, source = opened.plan, opened.model.architecture, opened.model.source
    plan.require_edits()
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    expected = reference(model, architecture, plan, plain_sequences(load_tokenizer(source)))
    del model
    gc.collect()
    identity = f"{plan.digest} {source.checkpoint.fingerprint()}"
    needed = source.checkpoint.total_bytes + plan.grown_bytes(source.checkpoint)
    with Staging.open(options.out, identity, options.force, needed) as staging:
        written = write_edited(plan, source.checkpoint, staging, progress)
        tensors = verify_tensors(plan, source.checkpoint, written, progress)
        model = load_model(source, options.dtype, options.device, written, options.max_memory)
        proof = verify_stream(model, architecture, plan, expected, plan.stored_dtype(written), tensors)
        origin = Origin(
            source,
            [*words, "--out", options.out.name],
            options.seed,
            choose_device(options.device),
            run=carry(taken.folder, staging) if taken else None,
        )
        if taken:
            save_found(staging.path(SEARCH), taken.found)
            staging.finish(SEARCH)
        measured = Measured(tensors, proof, search=taken.found if taken else None)
        write_records(staging, origin, plan, opened.files.directions, measured)
        staging.publish()
    notes = (*requantised_note(tensors), *opened.notes)
    notes += (*left_behind_note(source.checkpoint.left_behind()), *source.oddities)
    return WrittenEdit(options.out, tensors, proof, len(written.tensors) - len(plan.edits), notes)
