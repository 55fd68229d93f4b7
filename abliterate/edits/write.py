"""Applies a plan, streamed to a new checkpoint on disk; `orthogonalize` edits a live model in place."""

from __future__ import annotations

import json

from abliterate.checkpoints.checkpoint import Checkpoint, write_shard
from abliterate.checkpoints.shard_rewrite import rewrite_shard
from abliterate.edits.plan import EditPlan
from abliterate.parallel.threads import one_torch_thread
from abliterate.progress import SILENT, Progress
from abliterate.quantization.formats.base import read_config
from abliterate.quantization.formats.registry import with_unquantised
from abliterate.storage.foreign_files import read_json
from abliterate.storage.names import CONFIG
from abliterate.storage.staging import Staging


def write_edited(plan: EditPlan, source: Checkpoint, staging: Staging, progress: Progress = SILENT) -> Checkpoint:
    """Write the edited copy of `source` into the staging folder, shard by shard; finished shards are kept.

    Everything that is no weight file travels along. Returns the checkpoint in the staging folder, opened anew.
    Raises CheckpointError (damaged source, full disk, NaN).
    """
    with progress.step("writing the edited checkpoint", source.total_bytes, "B") as advance:
        filled = set(plan.weight_map(source).values())
        for shard in (shard for shard in source.shards if shard.name in filled):
            if staging.finished(shard.name):
                advance(shard.size)
                continue
            names = {entry.name for entry in shard.tensors}
            replaced = plan.replacements(source, shard)
            if replaced:
                with one_torch_thread():  # as everywhere else: the bits may depend on it
                    rewrite_shard(source.path(shard.name), shard, staging.path(shard.name), replaced, advance)
            else:
                edits = {name: edit.projection or edit.apply for name, edit in plan.edits.items() if name in names}
                write_shard(source, shard, staging.path(shard.name), edits, advance)
            staging.finish(shard.name)
    texts = changed_texts(plan, source)
    for path in source.files():
        if staging.finished(path.as_posix()):
            continue
        if path.as_posix() in texts:
            staging.write_text(path.as_posix(), texts[path.as_posix()])
        else:
            staging.copy_file(source.folder / path, path.as_posix())
    return Checkpoint.open(staging.folder)


def changed_texts(plan: EditPlan, source: Checkpoint) -> dict[str, str]:
    """Return the files that must say that some weights are not quantised any more: config.json, and the index."""
    if not plan.unquantised:
        return {}
    changed = {CONFIG: with_unquantised(read_config(source.folder), plan.unquantised, plan.never_quantised)}
    if source.index:
        index = read_json(source.folder / source.index)
        weight_map = plan.weight_map(source)
        total = sum(entry.nbytes for entry in source.tensors.values()) + plan.grown_bytes(source)
        changed[source.index] = {
            **index,
            "metadata": {**index.get("metadata", {}), "total_size": total},
            "weight_map": weight_map,
        }
    return {name: json.dumps(content, indent=2, ensure_ascii=False) + "\n" for name, content in changed.items()}
