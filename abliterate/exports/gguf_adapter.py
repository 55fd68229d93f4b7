"""An edit as a LoRA adapter for llama.cpp: `llama-server -m MODEL.gguf --lora ADAPTER.gguf`.

The edit `W <- W - s R^T (R W)` is the product of two thin matrices, exactly (docs/method.md, "The edit"). The adapter goes
with any quantisation of the same model: what it adds is the edit of the weights before they were quantised.

What llama.cpp cannot do is refused, with the reason. It adds no adapter to biases or position embeddings. It adds
one to the token embedding, but where the file has no output tensor of its own (tied embeddings), it looks the
embedding's adapter up for the head too and ends the process, because the shapes do not fit. So the embedding of a
tied model can be edited only in a file that does store an output, which `base` shows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.architectures.architecture import Architecture
from abliterate.architectures.sites import Site
from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.edits.plan import EditPlan
from abliterate.edits.tensor_edits import ScalesEdit, TensorEdit, UnquantizedEdit, ValuesEdit
from abliterate.errors import InputError
from abliterate.exports.forms import Export, PlannedEdit, Written
from abliterate.exports.gguf_names import (
    OUTPUT,
    REACHED,
    TOKEN_EMBEDDING,
    Named,
    architecture_name,
    gguf_file,
    names_of_architecture,
    needed,
)
from abliterate.progress import SILENT, Progress
from abliterate.projection import low_rank_factors

INSTEAD = "write the edited checkpoint and convert that instead"
GgufShape = tuple[int, ...]

Factors = tuple[Float[Tensor, "*experts out _"], Float[Tensor, "*experts _ in"]]
"""`(B, A)`: llama.cpp adds `B (A x)` to the product of a matrix `[out, in]` with `x`."""


@dataclass(frozen=True)
class GgufAdapter:
    """A written adapter: its rank, llama.cpp's names of the tensors that it changes, and the edits that it leaves out."""

    path: Path
    rank: int
    tensors: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """Size of the file in bytes."""
        return self.path.stat().st_size


def export_form(export: Export) -> Written:
    """Write the edit for llama.cpp, but for what is left out."""
    edit = export.planned()
    written = write_gguf_adapter(
        edit.plan,
        edit.source.checkpoint,
        edit.architecture,
        export.out,
        base=export.base,
        leave_out=export.leave_out,
        force=export.force,
        progress=export.progress,
    )
    return Written(notes=(f"left out: {', '.join(written.left_out)}",) if written.left_out else ())


def write_gguf_adapter(
    plan: EditPlan,
    checkpoint: Checkpoint,
    architecture: Architecture,
    out: Path,
    *,
    base: Path | None = None,
    leave_out: Collection[Site] = (),
    force: bool = False,
    progress: Progress = SILENT,
) -> GgufAdapter:
    """Write the edits of `plan` in `checkpoint` as an adapter in float32, for the GGUF of the same model.

    `base` is that GGUF: its architecture, names and shapes are checked, and a tied embedding is edited in both
    roles if it has an output of its own. The edits of sites in `leave_out` are left out. The scale that llama.cpp
    offers multiplies the strengths: 1 is the plan, 0 nothing, -1 the opposite.

    Raises InputError for what an adapter of llama.cpp cannot do, for a `base` that does not fit, for an `out` that
    exists (unless `force`) or cannot be written, and for a checkpoint that changed meanwhile; CheckpointError for a
    damaged one.
    """
    needed()
    stored = base_shapes(base, architecture) if base else None
    grouped = laid_out(plan, architecture, stored, leave_out)
    # llama.cpp scales by alpha / rank of each tensor: with one rank for all, alpha = rank is 1 everywhere.
    rank = max(edit.basis.shape[0] for members in grouped.values() for edit in members)
    names = []
    with gguf_file(out, architecture_name(architecture.model_type), force) as writer:
        writer.add_type("adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(rank))
        with progress.step("adapter", len(grouped), "tensors") as advance:
            for name, members in grouped.items():
                for target, (b, a) in pairs_of(name, members, checkpoint, rank, architecture.tied).items():
                    check_shape(target, (b, a), stored)
                    # As llama.cpp's own converter writes it: the factor that a token selects has one row a token.
                    first = a.mT if target == TOKEN_EMBEDDING else a
                    writer.add_tensor(f"{target}.lora_a", first.contiguous().numpy())
                    writer.add_tensor(f"{target}.lora_b", b.contiguous().numpy())
                    names.append(target)
                advance(1)
        checkpoint.snapshot.require_unchanged()
    left = tuple(edit.name for edit in effective(plan) if edit.site in leave_out)
    return GgufAdapter(out, rank, tuple(names), left)


def check_form(edit: PlannedEdit, leave_out: Collection[Site] = ()) -> None:
    """Raise InputError where no adapter of llama.cpp could hold an edit like this one; no weights are read."""
    needed()
    architecture_name(edit.architecture.model_type)
    laid_out(edit.plan, edit.architecture, None, leave_out)


def laid_out(
    plan: EditPlan, architecture: Architecture, stored: Mapping[str, GgufShape] | None, leave_out: Collection[Site]
) -> dict[str, list[TensorEdit]]:
    """Return the edits by llama.cpp's tensors. Raises InputError for what an adapter of llama.cpp cannot do."""
    plan.recipe.require_projection("an adapter")
    if plan.addition:
        raise InputError("an adapter of llama.cpp holds no biases; write a control vector: --to control-vector")
    edits = [edit for edit in effective(plan) if edit.site not in leave_out]
    if not edits:
        raise InputError("nothing is left to put into the adapter; leave out fewer sites")
    grouped = grouped_edits(edits, architecture)
    check_embedding(grouped, architecture, stored)
    return grouped


def effective(plan: EditPlan) -> Iterator[TensorEdit]:
    """Yield the edits that change a weight, one for each weight."""
    for edit in plan.edits.values():
        if edit.strength and not isinstance(edit, ScalesEdit):
            yield edit


def grouped_edits(edits: Sequence[TensorEdit], architecture: Architecture) -> dict[str, list[TensorEdit]]:
    """Return the edits of each of llama.cpp's tensors, of experts in their order. Raises InputError as the caller."""
    named = names_of_architecture(architecture.model_type, architecture.depth)
    found: dict[str, dict[int, TensorEdit]] = {}
    for edit in edits:
        place = named(named_parameter(edit))
        if architecture.tied and place and place.name == OUTPUT:
            continue  # a head that is stored although it is tied: the edit of the embedding stands for both
        target = reached(edit, place)
        found.setdefault(target.name, {})[target.expert or 0] = edit
    return {name: [members[key] for key in sorted(members)] for name, members in found.items()}


def reached(edit: TensorEdit, place: Named | None) -> Named:
    """Return the tensor of llama.cpp that an edit is of. Raises InputError when its adapters cannot hold the edit."""
    if edit.name.endswith("bias"):
        raise InputError(f"{edit.name}: is a bias, which an adapter of llama.cpp cannot change; {INSTEAD}")
    if place is None:
        raise InputError(f"{edit.name}: llama.cpp has no name for it; {INSTEAD}")
    if place.expert is None and "_exps" in place.name:
        raise InputError(f"{edit.name}: experts that are stored as one tensor are not supported; {INSTEAD}")
    if not REACHED.fullmatch(place.name):
        raise InputError(f"{edit.name}: llama.cpp adds no adapter to its {place.name}; {INSTEAD}")
    return place


def check_embedding(
    grouped: Mapping[str, Sequence[TensorEdit]], architecture: Architecture, stored: Mapping[str, GgufShape] | None
) -> None:
    """Raise InputError when the embedding is edited and llama.cpp will use it as the head too."""
    both = architecture.tied if stored is None else OUTPUT not in stored
    if TOKEN_EMBEDDING in grouped and both:
        raise InputError(
            f"{grouped[TOKEN_EMBEDDING][0].name}: is the head too (tied embeddings), and llama.cpp cannot add an adapter "
            "to both; leave out the site embed (--leave-out embed), or export it for a GGUF file that has output.weight (--gguf FILE)"
        )


def check_shape(name: str, pair: Factors, stored: Mapping[str, GgufShape] | None) -> None:
    """Raise InputError when the tensor of the GGUF file is missing or has another shape than the adapter's product."""
    if stored is None:
        return
    b, a = pair
    ends = (b.shape[-2], a.shape[-1]) if name == TOKEN_EMBEDDING else (a.shape[-1], b.shape[-2])
    expected = (*ends, *b.shape[:-2])  # GGUF counts axes from the inside
    if stored.get(name) != expected:
        raise InputError(
            f"{name}: has shape {stored.get(name)} in the GGUF file, expected {expected}; give the GGUF of the same model"
        )


def pairs_of(
    name: str, members: Sequence[TensorEdit], checkpoint: Checkpoint, rank: int, tied: bool
) -> dict[str, Factors]:
    """Return the factors of the adapter by llama.cpp's names: those of one tensor, and of a tied embedding's head."""
    pairs = [padded_factor(gguf_factors(edit, weight_of(edit, checkpoint)), rank) for edit in members]
    b, a = pairs[0]
    if "_exps" in name:
        b, a = torch.stack([one for one, _ in pairs]), torch.stack([one for _, one in pairs])
    if name == TOKEN_EMBEDDING and tied:
        return {name: (b, a), OUTPUT: (a.mT, b.mT)}
    return {name: (b, a)}


def gguf_factors(edit: TensorEdit, weight: Float[Tensor, "..."]) -> Factors:
    """Return what the edit adds to a matrix that is seen with the residual stream on its first axis."""
    return low_rank_factors(weight.movedim(edit.axis, 0), edit.basis, edit.strength)


def padded_factor(pair: Factors, rank: int) -> Factors:
    """Return factors of the given rank with the same product."""
    b, a = pair
    more = rank - a.shape[0]
    return torch.nn.functional.pad(b, (0, more)), torch.nn.functional.pad(a, (0, 0, 0, more))


def named_parameter(edit: TensorEdit) -> str:
    """Return the name that the weight of an edit has unquantised."""
    return edit.weight.tensors.parameter if isinstance(edit, ValuesEdit | UnquantizedEdit) else edit.name


def weight_of(edit: TensorEdit, checkpoint: Checkpoint) -> Tensor:
    """Read the weight that an edit changes, dequantised."""
    if isinstance(edit, ValuesEdit | UnquantizedEdit):
        return edit.weight.beside(checkpoint).dequantized()
    return checkpoint.read(edit.name)


def base_shapes(base: Path, architecture: Architecture) -> dict[str, GgufShape]:
    """Return the tensors of a GGUF file, axes counted from the inside. Raises InputError for one of another model."""
    import gguf

    try:
        reader = gguf.GGUFReader(base)
        found = reader.fields["general.architecture"].contents()
    except (OSError, ValueError, KeyError) as error:
        raise InputError(f"{base}: cannot be read as a GGUF file ({error})") from error
    wanted = architecture_name(architecture.model_type)
    if found != wanted:
        raise InputError(f"{base}: is of architecture {found}, expected {wanted}; give the GGUF of the same model")
    return {tensor.name: tuple(map(int, tensor.shape)) for tensor in reader.tensors}
