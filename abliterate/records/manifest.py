"""The manifest `abliterate.json`: what was done, from what, how it was proved and measured. No times, no paths of
this machine: the same run gives the same bytes."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
import transformers

from abliterate.checkpoints.checkpoint import content_hash
from abliterate.checkpoints.other_files import own_card
from abliterate.directions.addition import Trial
from abliterate.directions.candidates import Selection
from abliterate.directions.directions import Directions
from abliterate.directions.files import read_directions
from abliterate.edits.plan import EditPlan
from abliterate.edits.tensor_edits import TensorReport
from abliterate.errors import InputError, first_line
from abliterate.evaluation.divergence import Divergence
from abliterate.evaluation.observation import Observation
from abliterate.evaluation.thinking import Thinking
from abliterate.models.generation import REPLY_TOKENS
from abliterate.models.source import Source
from abliterate.parallel.devices import hardware
from abliterate.progress import SILENT, Progress
from abliterate.prompts.chat_format import template_digest
from abliterate.proofs.stream import StreamReport
from abliterate.records.model_card import model_card
from abliterate.records.schema import check_shape
from abliterate.records.shapes import MANIFEST_PARTS, RECORD_PARTS
from abliterate.replies.behaviours import REFUSAL
from abliterate.search.stages import SearchResult
from abliterate.search.variables import is_learned
from abliterate.storage.foreign_files import read_json
from abliterate.storage.names import CARD, DIRECTIONS, MANIFEST, RECIPE, SETTINGS, TEMPLATE
from abliterate.storage.staging import Staging

Form = Literal["checkpoint", "adapter"]

UNDO = "on the edited checkpoint this adapter, its scaling times -1, gives the original back, to rounding"

UNDO_ADDED = "without this adapter the model is the original; it is not merged"


@dataclass(frozen=True)
class Measured:
    """What is known of a written checkpoint; the figures are None where nothing was chosen or measured.

    `trials` are the strengths that were tried of an addition, the best first; `thinking` has both modes of a model that thinks.
    """

    tensors: tuple[TensorReport, ...]
    proof: StreamReport
    selection: Selection | None = None
    original: Observation | None = None
    edited: Observation | None = None
    divergence: Divergence | None = None
    search: SearchResult | None = None
    trials: tuple[Trial, ...] = ()
    thinking: Thinking | None = None

    def figures(self) -> dict[str, Any] | None:
        """Return refusal rates before and after and the divergence, or None when they were not measured."""
        if self.original is None or self.edited is None or self.divergence is None:
            return None
        return {
            "reply_tokens": REPLY_TOKENS,
            "original": self.original.to_json(),
            "edited": self.edited.to_json(),
            "kl": self.divergence.to_json(),
            **({"thinking": self.thinking.to_json()} if self.thinking else {}),
        }


@dataclass(frozen=True)
class Origin:
    """What an edit was made from, and on what: the source, the command that repeats it, the seed, the device, the prompts
    and the chat template that it was given, if any; and its form. `run` is the record of the run that found the edit,
    where this is another form of it; `made` is how replies were made, empty for greedy ones; `settings` the text of the
    file with which `--config` repeats it; `target` is the behaviour that shall go."""

    source: Source
    command: Sequence[str]
    seed: int
    device: torch.device
    prompts: Mapping[str, Any] | None = None
    form: Form = "checkpoint"
    template: str | None = None
    run: Mapping[str, Any] | None = None
    made: Mapping[str, Any] = field(default_factory=dict)
    target: str = REFUSAL
    settings: str | None = None


def write_records(
    staging: Staging, origin: Origin, plan: EditPlan, directions: Path | Directions, measured: Measured
) -> dict[str, Any]:
    """Write directions, recipe, manifest and model card into the staging folder; return the manifest.

    Raises InputError where the source is not what was loaded any more.
    """
    source = origin.source
    manifest = {
        "abliterate": version("abliterate"),
        "form": origin.form,
        "versions": {
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "transformers": transformers.__version__,
        },
        "hardware": hardware(origin.device),
        "source": {
            "model": source.public_name,
            "revision": source.revision,
            "files": hashes(source),
        },
        **({} if origin.target == REFUSAL else {"target": origin.target}),
        "seed": origin.seed,
        "command": list(origin.command),
        "prompts": origin.prompts,
        **keep_template(staging, origin.template),
        **origin.made,
        **({"run": dict(origin.run)} if origin.run else {}),
        "direction": write_directions(staging, directions, plan, measured.selection),
        "selection": measured.selection.to_json() if measured.selection else None,
        "search": measured.search.to_json() if measured.search else None,
        **({"trials": [asdict(one) for one in measured.trials]} if measured.trials else {}),
        "recipe": plan.recipe.to_json(),
        "edited_dtype": plan.edited_dtype,
        "unquantised": list(plan.unquantised),
        "tensors": [asdict(report) for report in measured.tensors],
        "proof": measured.proof.to_json(),
        "left_alone": list(plan.left_alone),
        "left_behind": []
        if origin.form == "adapter"
        else [path.as_posix() for path in source.checkpoint.left_behind()],
        "figures": measured.figures(),
        **({"undo": UNDO if plan.addition is None else UNDO_ADDED} if origin.form == "adapter" else {}),
    }
    staging.write_text(RECIPE, json_text(plan.recipe.to_json()))
    staging.write_text(MANIFEST, json_text(manifest))
    if origin.settings is not None:
        staging.write_text(SETTINGS, origin.settings)
    staging.write_text(CARD, model_card(manifest, own_card(source.folder)))
    source.checkpoint.snapshot.require_unchanged()
    return manifest


def keep_template(staging: Staging, template: str | None) -> dict[str, Any]:
    """Keep the chat template that a run was given, if any, beside its record; return what the record says of it."""
    if template is None:
        return {}
    staging.write_text(TEMPLATE, template)
    return {"chat_template": {"file": TEMPLATE, "digest": template_digest(template)}}


def write_directions(
    staging: Staging, directions: Path | Directions, plan: EditPlan, selection: Selection | None
) -> dict[str, Any]:
    """Write the directions that were found, or copy the file that was given; return what the manifest says of them."""
    if isinstance(directions, Path):
        staging.copy_file(directions, DIRECTIONS)
        _, record = read_directions(directions)
        position, method = record.get("position"), record.get("method")
    else:
        assert selection is not None
        path = staging.path(DIRECTIONS)
        learned = zip(plan.recipe.names, plan.basis, strict=True) if is_learned(plan.recipe) else ()
        directions.save(path, selection.chosen.position, {name: row.contiguous() for name, row in learned})
        staging.finish(DIRECTIONS)
        position, method = selection.chosen.position, directions.method
    recipe = plan.recipe  # the name may be anybody's, such as resid.mean: of no layer
    name = ", ".join(recipe.names) if recipe.names else None
    found = {"name": name, "method": method, "layer": recipe.layer, "position": position}
    return found if isinstance(directions, Path) else {**found, **directions.metadata.get("made_of", {})}


def hashes(source: Source, progress: Progress = SILENT) -> dict[str, str]:
    """Return the sha256 of each of a model's weight files."""
    found = {}
    with progress.step("hashing the original", source.checkpoint.total_bytes, "B") as advance:
        for shard in source.checkpoint.shards:
            found[shard.name] = content_hash(source.checkpoint.path(shard.name))
            advance(shard.size)
    return found


def check_source(folder: Path, made_from: Mapping[str, Any], source: Source, progress: Progress) -> None:
    """Raise InputError unless the weights of `source` are, bit for bit, those that the edit was made from."""
    if made_from.get("files") != hashes(source, progress):
        origin = f"{made_from.get('model')}" + (
            f" at --revision {made_from['revision']}" if made_from.get("revision") else ""
        )
        raise InputError(
            f"{folder}: was not made from {source.name}, whose weights are others; its {MANIFEST} names {origin}"
        )


def json_text(record: Mapping[str, Any]) -> str:
    """Return a record as its file holds it."""
    return json.dumps(record, indent=2, ensure_ascii=False) + "\n"


def read_manifest(folder: Path, name: str = MANIFEST) -> dict[str, Any]:
    """Read `abliterate.json` of an edited checkpoint, or another record.

    Raises InputError when there is none, it is not JSON, or something that is read of it is of another kind.
    """
    path = folder / name
    try:
        manifest = read_json(path)
    except FileNotFoundError as error:
        raise InputError(f"{folder}: has no {name}; it was not written by abliterate") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)})") from error
    if not isinstance(manifest, dict):
        raise InputError(f"{path}: expected a JSON object")
    check_shape(manifest, MANIFEST_PARTS if name == MANIFEST else RECORD_PARTS, str(path))
    return manifest


def part(manifest: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object in a record: empty where there is none, or null."""
    return manifest.get(name) or {}


def manifest_beside(folder: Path) -> dict[str, Any] | None:
    """Return the manifest in a folder, None where there is none. Raises InputError when it cannot be read."""
    return read_manifest(folder) if (folder / MANIFEST).is_file() else None
