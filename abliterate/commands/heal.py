"""`abliterate heal`: fine-tune an edited model while the direction is kept out, and prove that it is."""

from __future__ import annotations

import gc
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor

from abliterate.architectures.architecture import find_architecture
from abliterate.checkpoints.quantized_weight import quantised_tensors
from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.interventions.recipe import Recipe
from abliterate.models.loading import dtype_name, load_model, stored_dtype
from abliterate.models.source import Source, load_tokenizer, resolve
from abliterate.pipeline.conditions import carry
from abliterate.pipeline.open_edit import EditFiles
from abliterate.progress import SILENT, Progress
from abliterate.prompts.sources import public_spec
from abliterate.proofs.stream import plain_sequences
from abliterate.records.option import without_flag, words_of
from abliterate.records.training_card import provenance, write_record
from abliterate.storage.names import DIRECTIONS, HEALED, RECIPE
from abliterate.storage.staging import Staging, check_destination, check_free
from abliterate.training.examples import read_examples
from abliterate.training.heal import Training, heal_model
from abliterate.training.heal_options import HealOptions
from abliterate.training.healed import KeptOut, edited_from, healed_components, prove_healed, reopened, write


@dataclass(frozen=True)
class Healed:
    """A healed model on disk."""

    out: Path
    training: Training
    proof: KeptOut


def heal(
    model: str,
    dataset: str,
    out: Path,
    options: HealOptions | None = None,
    *,
    dtype: str = "auto",
    device: str = "auto",
    offline: bool = False,
    revision: str | None = None,
    force: bool = False,
    keep_paths: bool = False,
    progress: Progress = SILENT,
) -> Healed:
    """Heal an edited checkpoint (a folder or Hub id with the recipe and directions of its edit) and write it to `out`.

    The merged checkpoint or the adapter is read again from disk and proved before it takes the name `out`.
    Raises InputError for what cannot be read or trained, ProofError when the direction came back.
    """
    chosen = options or HealOptions()
    require("train", "healing")
    dtype = dtype_name("--dtype", dtype)
    check_free(out, force)
    examples = read_examples(dataset, chosen.method, limit=chosen.limit, offline=offline)
    source = resolve(model, revision=revision, offline=offline, progress=progress)
    check_destination(source.folder, out)
    if not chosen.adapter:
        check_mergeable(source)
    recipe, basis = edit_of_folder(source)
    live, tokenizer = load_model(source, dtype, device), load_tokenizer(source)
    before = healed_components(live, find_architecture(live), basis, recipe)
    words = ["abliterate", "heal", source.shown_name, "--dataset", public_spec(dataset), *words_of(chosen)]
    others = {"--dtype": None if dtype == "auto" else dtype, "--revision": revision, "--out": Path(out).name}
    words += [word for flag, value in others.items() if value for word in (flag, value)]
    form = "adapter" if chosen.adapter else "checkpoint"
    record = {
        **provenance("healed", form, source, words, ("torch", "transformers", "peft", "trl"), progress),
        "edited_from": edited_from(source),
        "without_flag": without_flag(chosen),
        "dataset": public_spec(dataset),
        "dataset_digest": digest_of(examples),
        "direction": ", ".join(recipe.names),
        **({"directions": list(recipe.names)} if len(recipe.names) > 1 else {}),
        "dtype": str(live.dtype).removeprefix("torch."),
        "options": asdict(chosen),
    }
    adapted, training = heal_model(live, tokenizer, examples, basis, recipe, chosen, progress)
    with Staging.open(out, f"heal {source.checkpoint.fingerprint()} {dataset} {chosen}", force) as staging:
        write(adapted, source, staging, chosen.adapter, keep_paths)
        del adapted, live
        gc.collect()
        healed = reopened(source, staging, dtype, device, chosen.adapter)
        proof = prove_healed(healed, plain_sequences(tokenizer), basis, recipe, before, stored_dtype(source))
        run = carry(source.folder, staging)
        record |= {"run": run} if run else {}
        record |= {"learning_rate": chosen.rate, "training": asdict(training), "proof": asdict(proof)}
        write_record(staging, HEALED, record, source)
        staging.publish()
    return Healed(out, training, proof)


def check_mergeable(source: Source) -> None:
    """Raise InputError for a checkpoint that a LoRA cannot be merged into, or whose files cannot be copied."""
    source.checkpoint.files()  # a link that cannot be copied is named before there is work to lose
    if quantised_tensors(source.checkpoint):
        raise InputError(f"{source.name}: its weights are quantised, and a merged LoRA would not be; write an adapter")


def digest_of(examples: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of the examples, in order: of what was learned from, whatever the file around it."""
    return hashlib.sha256(json.dumps(examples, sort_keys=True, default=str).encode()).hexdigest()


def edit_of_folder(source: Source) -> tuple[Recipe, Float[Tensor, "k d_model"]]:
    """Return the recipe and the direction that a checkpoint was edited by. Raises InputError when it has none."""
    for name in (RECIPE, DIRECTIONS):
        if not (source.folder / name).is_file():
            raise InputError(f"{source.name}: has no {name}; heal a checkpoint that abliterate has edited")
    files = EditFiles.of(source.folder / RECIPE)
    files.recipe.require_removal()
    return files.recipe, files.basis
