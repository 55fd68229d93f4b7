"""The proof: what was written is what was planned, and it works (docs/method.md, "The proof").

Tensors first (`comparison`): reopened from disk, those outside the plan are equal bit for bit, those in it are what
the plan makes of the original. Then the model: at strength 1 its residual stream is silent along the direction at every
layer; at any other strength its residual stream equals that of the original under the hook form.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.architectures.architecture import Architecture
from abliterate.architectures.sites import Site
from abliterate.architectures.streams import lanes, resid_of
from abliterate.edits.bias_sites import Addition
from abliterate.edits.plan import EditPlan
from abliterate.edits.tensor_edits import TensorReport
from abliterate.errors import AbliterateError, InputError, ProofError
from abliterate.interventions import ablated, disturbed, hook_form
from abliterate.models.batches import Batch, prepare_batches
from abliterate.models.forward import final_hidden
from abliterate.prompts.prompt_set import load_prompts

PROMPTS = 8
"""Prompts that the proof runs; it looks at every layer and every position of each."""

PROOF_TEXTS = "builtin:everyday"
"""Plain text for proofs where no chat template is at hand: every layer must be silent on any text."""

SILENCE = {torch.float32: 1e-5, torch.float16: 1.5e-3, torch.bfloat16: 1e-2}
"""Largest `|resid·R| / |resid|` that rounding explains. Under hooks, which leave nothing but rounding, the streams
of SmolLM2-135M and Qwen2.5-0.5B reach 7e-3 in bfloat16 and 2e-7 in float32, at their largest activations."""

AGREEMENT = {torch.float32: 1e-4, torch.float16: 1e-2, torch.bfloat16: 8e-2}
"""Largest relative difference between hook form and weight form that rounding explains, root mean square over tokens."""


@dataclass(frozen=True)
class StreamReport:
    """The residual stream of the edited model: `largest` is what must be at rounding level, `limit` that level.

    `kind` is `silence` (component along the direction relative to the stream, with that of the unedited model
    in `before`) or `agreement` (difference from the hook form relative to the stream).
    """

    kind: str
    per_layer: tuple[float, ...]
    limit: float
    before: float | None = None

    @property
    def holds(self) -> bool:
        """Return whether the proof succeeded; it may have failed only where the user allowed that."""
        return self.largest <= self.limit

    @property
    def largest(self) -> float:
        """Return the largest value over layers, prompts and positions."""
        return max(self.per_layer)

    def to_json(self) -> dict[str, object]:
        """Return the proof as the manifest holds it."""
        return {
            "kind": self.kind,
            "largest": self.largest,
            "limit": self.limit,
            "holds": self.holds,
            "before": self.before,
            "per_layer": list(self.per_layer),
        }


@dataclass(frozen=True)
class Reference:
    """What the original model's stream was on the proof's prompts, to hold the edited one against."""

    sequences: tuple[tuple[int, ...], ...]
    component: float
    hooked: tuple[Tensor, ...] | None


def reference(
    model: PreTrainedModel, architecture: Architecture, plan: EditPlan, sequences: Sequence[Sequence[int]]
) -> Reference:
    """Run the original model on the proof's prompts, before anything is written.

    With hooks on every writer the stream must already be silent: whatever the strength, all writers were found.
    Raises ProofError naming the layer that leaks, InputError naming one whose activations are NaN or infinite.
    """
    chosen = tuple(tuple(sequence) for sequence in sequences[:PROMPTS])
    before = max(relative_component(model, architecture, plan.basis, chosen))
    if plan.addition is None:
        with ablated(model, plan.basis, architecture=architecture):
            silent = relative_component(model, architecture, plan.basis, chosen)
        if not architecture.problems:
            check_reference("the writers that were found do not account for the stream", silent, SILENCE[model.dtype])
    if plan.recipe.exact:
        return Reference(chosen, before, None)
    with hook_form(model, plan.basis, plan.recipe, architecture):
        hooked = tuple(streams(model, architecture, chosen))
    return Reference(chosen, before, hooked)


def check_reference(problem: str, per_layer: Sequence[float], limit: float) -> None:
    """Raise ProofError, naming the first layer above `limit`. NaN is above it."""
    for layer, value in enumerate(per_layer):
        if not value <= limit:
            raise ProofError(
                f"{problem} at resid[{layer}]: {value:.1e} of the stream, {limit:.1e} allowed; "
                "this architecture has a writer that was not found, please report it"
            )


def verify_stream(
    model: PreTrainedModel,
    architecture: Architecture,
    plan: EditPlan,
    reference: Reference,
    stored: torch.dtype,
    tensors: Sequence[TensorReport] = (),
) -> StreamReport:
    """Run the edited model; return how silent its stream is, or how close to the hook form.

    `stored` is the dtype of the plain weights on disk; `tensors` say what quantising the others again brought back or
    changed, which is allowed for. Raises ProofError naming the layer that leaks, differs, or is NaN or infinite.
    """
    coarsest = max((stored, model.dtype), key=lambda dtype: torch.finfo(dtype).eps)
    if reference.hooked is None:
        values = relative_component(model, architecture, plan.basis, reference.sequences, ProofError)
        limit = SILENCE[coarsest] + max((one.leak.of_stream for one in tensors if one.leak), default=0.0)
        report = StreamReport("silence", tuple(values), limit, reference.component)
        problem = "the edited model still writes along the direction"
    else:
        own = streams(model, architecture, reference.sequences, ProofError)
        values = [logit_difference(hooked, stream) for hooked, stream in zip(reference.hooked, own, strict=True)]
        limit = AGREEMENT[coarsest] + requantised_difference(model, architecture, plan, reference, own, tensors)
        report = StreamReport("agreement", tuple(values), limit)
        problem = "the edited model differs from the hook form"
        if plan.addition:
            check_addition(plan.addition, plan.basis[0], reference.hooked, own, AGREEMENT[coarsest])
    if not architecture.problems:
        check_reference(problem, report.per_layer, report.limit)
    return report


def check_addition(
    addition: Addition,
    direction: Float[Tensor, " d_model"],
    hooked: Sequence[Tensor],
    own: Sequence[Tensor],
    limit: float,
) -> None:
    """Raise ProofError where the stream does not move as far as the vector is long, by the median over the tokens.

    Beside the stream the vector may be small, and a wrong length of it smaller.
    """
    layer = addition.layer
    missing = float(((own[layer] - hooked[layer]) @ direction.to(own[layer])).median()) / addition.length
    if not abs(missing) <= limit:
        raise ProofError(
            f"resid[{layer}] moves by {1 + missing:.3f} of the vector, 1 within {limit:.0e} was planned; please report it"
        )


def requantised_difference(
    model: PreTrainedModel,
    architecture: Architecture,
    plan: EditPlan,
    reference: Reference,
    own: Sequence[Tensor],
    tensors: Sequence[TensorReport],
) -> float:
    """Return how far random errors of the sizes that quantising again made move the stream, twice over; 0 without any.

    How errors grow from layer to layer is the model's own: so it is run with such errors in what its writers write.
    """
    errors: dict[tuple[Site, int | None], float] = {}
    for one in tensors:
        if one.leak and one.leak.norm_after:
            place = plan.edits[one.name].site, plan.edits[one.name].layer
            errors[place] = max(errors.get(place, 0.0), one.leak.error / one.leak.norm_after)
    shares = {one: errors[one.site, one.layer] for one in architecture.writers if (one.site, one.layer) in errors}
    if not shares:
        return 0.0
    with disturbed(model, shares):
        moved = streams(model, architecture, reference.sequences, ProofError)
    return 2 * max(logit_difference(one, other) for one, other in zip(own, moved, strict=True))


def streams(
    model: PreTrainedModel,
    architecture: Architecture,
    sequences: Sequence[Sequence[int]],
    error: type[AbliterateError] = InputError,
) -> list[Float[Tensor, "tokens *lanes d_model"]]:
    """Return `resid[0..L]` at every real token of the prompts, in float32 on the CPU.

    Raises `error` where one is NaN or infinite: that is no writer that was not found.
    """
    layers: list[list[Tensor]] = [[] for _ in range(architecture.depth + 1)]
    for batch in prepare_batches(
        model, [[*sequence] for sequence in sequences], keep=1 + max(map(len, sequences))
    ).batches:
        with resid_of(model, architecture) as collected:
            final_hidden(model, batch)
        for number, (layer, stream) in enumerate(zip(layers, collected, strict=True)):
            layer.append(lanes(stream, architecture.d_model)[real_tokens(batch)].float().cpu())
            if not bool(torch.isfinite(layer[-1]).all()):
                raise error(
                    f"the weights or activations are NaN or infinite at resid[{number}]; try --dtype float32, or check "
                    "the checkpoint"
                )
    return [torch.cat(layer) for layer in layers]


def real_tokens(batch: Batch) -> Tensor:
    """Return the mask of tokens that are not padding."""
    return torch.arange(batch.tokens.shape[1], device=batch.tokens.device) < batch.lengths[:, None]


def relative_component(
    model: PreTrainedModel,
    architecture: Architecture,
    basis: Float[Tensor, "k d_model"],
    sequences: Sequence[Sequence[int]],
    error: type[AbliterateError] = InputError,
) -> list[float]:
    """Return, per layer, the largest `|resid·R| / |resid|` over all tokens of the prompts. Raises as `streams`."""
    rows = basis.cpu().double().T
    return [
        float(relative((stream @ rows).norm(dim=-1), stream.norm(dim=-1)).max())
        for stream in (one.double() for one in streams(model, architecture, sequences, error))
    ]


def relative(part: Float[Tensor, "*tokens"], whole: Float[Tensor, "*tokens"]) -> Float[Tensor, "*tokens"]:
    """Return `part / whole`; of a stream that is zero, nothing is 0 of it, and anything else is infinitely much."""
    return torch.where((part == 0) & (whole == 0), 0.0, part / whole)


def logit_difference(
    expected: Float[Tensor, "tokens *lanes d_model"], found: Float[Tensor, "tokens *lanes d_model"]
) -> float:
    """Return the relative difference of two streams, root mean square over the tokens."""
    one, other = expected.double(), found.double()  # squares of large activations overflow in float32
    return float(relative((one - other).norm(dim=-1), one.norm(dim=-1)).square().mean().sqrt())


def requantised_note(tensors: Sequence[TensorReport]) -> tuple[str, ...]:
    """Return one line about what came back as weights were quantised again, or none where none was."""
    worst = max((one for one in tensors if one.leak), key=lambda one: one.leak.share if one.leak else 0.0, default=None)
    if worst is None or worst.leak is None:
        return ()
    leak, count = worst.leak, sum(one.leak is not None for one in tensors)
    return (
        f"{count} weights were quantised again; of their component along the direction at most {leak.share:.2%} came "
        f"back ({worst.name}: {leak.before:.1e} before, {leak.projected:.1e} projected, {leak.stored:.1e} stored)",
    )


def plain_sequences(tokenizer: PreTrainedTokenizerBase) -> Sequence[Sequence[int]]:
    """Return token ids of a few plain texts, without any chat template."""
    texts = load_prompts(PROOF_TEXTS).first(PROMPTS).prompts
    encoded: list[list[int]] = tokenizer(list(texts))["input_ids"]
    return encoded
