"""Applies a plan: streamed to a new checkpoint on disk, or in place to a live model."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architecture import find_architecture
from abliterate.checkpoint import Checkpoint, write_shard
from abliterate.errors import InputError
from abliterate.interventions import writer_bases
from abliterate.offload import streaming_of
from abliterate.plan import EditPlan
from abliterate.progress import SILENT, Progress
from abliterate.projection import project_out
from abliterate.recipe import Recipe
from abliterate.staging import Staging


def write_edited(plan: EditPlan, source: Checkpoint, staging: Staging, progress: Progress = SILENT) -> Checkpoint:
    """Write the edited copy of `source` into the staging folder, shard by shard; finished shards are kept.

    Everything that is no weight file travels along. Returns the checkpoint in the staging folder, opened anew.
    Raises CheckpointError (damaged source, full disk, NaN).
    """
    with progress.step("writing the edited checkpoint", source.total_bytes, "B") as advance:
        for shard in source.shards:
            if staging.finished(shard.name):
                advance(shard.size)
                continue
            names = {entry.name for entry in shard.tensors}
            edits = {name: edit.projection or edit.apply for name, edit in plan.edits.items() if name in names}
            write_shard(source, shard, staging.path(shard.name), edits, advance)
            staging.finish(shard.name)
    for path in source.files():
        if not staging.finished(path.as_posix()):
            staging.copy_file(source.folder / path, path.as_posix())
    return Checkpoint.open(staging.folder)


def orthogonalize(
    model: PreTrainedModel, direction: Float[Tensor, "*k d_model"], recipe: Recipe | None = None
) -> PreTrainedModel:
    """Edit the weights of a live model in place, exactly as the command edits a checkpoint; return the model.

    `direction` is a unit vector, or orthonormal rows; `recipe` says how strongly at which site and layer
    (strength 1 everywhere by default). Arditi et al. 2024, arXiv 2406.11717, section 4.1.
    Raises InputError for a model that streams from the disk, whose weights are not there to be edited.
    """
    if streaming_of(model) is not None:
        raise InputError("layers of this model stay on the disk; edit its checkpoint with `abliterate apply`")
    architecture = find_architecture(model)
    chosen = recipe or Recipe.uniform()
    chosen.check(architecture.depth)
    bases = direction.reshape(1, -1, direction.shape[-1]).float()
    with torch.no_grad():
        for writer in architecture.writers:
            strength = chosen.strength(writer.site, writer.layer)
            if strength:
                basis = writer_bases(model, writer, bases)[0]
                module = model.get_submodule(writer.module)
                for one in writer.parameters:
                    parameter = module.get_parameter(one.name)
                    parameter.copy_(project_out(parameter, basis, strength, one.axis))
    return model
