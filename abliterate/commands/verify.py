"""`abliterate verify`: prove again, from the files, that a checkpoint is another one edited by its recipe."""

from __future__ import annotations

import gc
from dataclasses import dataclass, replace
from pathlib import Path

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.models.loading import load_model
from abliterate.models.source import load_tokenizer
from abliterate.pipeline.open_edit import EditFiles, open_edit
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.options import ModelOptions
from abliterate.progress import SILENT, Progress
from abliterate.proofs.stream import StreamReport, plain_sequences, reference, requantised_note, verify_stream
from abliterate.proofs.tensors import TensorStatus, Verdict, compare_tensors
from abliterate.records.manifest import part, read_manifest


@dataclass(frozen=True)
class Verified:
    """Two checkpoints held against each other; `proof` is None where a tensor is already not as planned."""

    original: str
    edited: Path
    verdicts: tuple[Verdict, ...]
    proof: StreamReport | None
    notes: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Return whether every tensor is untouched or as planned, and the stream is as it must be."""
        return self.proof is not None and self.proof.holds

    def of_status(self, status: TensorStatus) -> list[Verdict]:
        """Return the tensors that are untouched, edited or other."""
        return [verdict for verdict in self.verdicts if verdict.status == status]


def verify(original: str, edited: Path, options: ModelOptions, progress: Progress = SILENT) -> Verified:
    """Hold `edited` against `original` and the recipe in its own folder: every tensor, then the residual stream.

    Raises ProofError when the tensors are as planned but the stream is not, InputError when `edited` was not
    written by abliterate.
    """
    manifest = read_manifest(edited)
    unproved = not part(manifest, "proof").get("holds", True)
    source = open_source(options, progress, original)
    written = Checkpoint.open(edited)
    as_recorded = replace(options, allow_unproved=unproved)
    opened = open_edit(as_recorded, EditFiles.of(edited), progress, source, manifest.get("edited_dtype"))
    plan, architecture = opened.plan, opened.model.architecture
    verdicts = compare_tensors(plan, source.checkpoint, written, progress)
    if any(verdict.status == "other" for verdict in verdicts):
        return Verified(original, edited, verdicts, None, opened.notes)
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    expected = reference(model, architecture, plan, plain_sequences(load_tokenizer(source)))
    del model
    gc.collect()
    model = load_model(source, options.dtype, options.device, written, options.max_memory)
    reports = [verdict.report for verdict in verdicts if verdict.report]
    proof = verify_stream(model, architecture, plan, expected, plan.stored_dtype(written), reports)
    return Verified(original, edited, verdicts, proof, (*requantised_note(reports), *opened.notes))
