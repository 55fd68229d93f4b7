"""What ablating each of many directions would do to the refusal score, to first order: one pass forward, one back for all.

Attribution patching (Nanda 2023, "Attribution patching: activation patching at industrial scale"; Kramár et al. 2024,
arXiv 2403.00745): an ablation takes `(y·r) r` from what each writer writes, so that the score changes by about
`-sum (y·r)(g·r)` over writers and tokens, `g` being the gradient of the score there. That is the derivative of the score by a
strength that all writers share, at 0, and is computed as such: gains, biases and tied heads are where the ablation has them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, Writer
from abliterate.directions.scores import final_states, prepare_openings, refusal_score
from abliterate.interventions import writer_edits
from abliterate.interventions.hooks import Change, at_input, at_output, hooks_of
from abliterate.models.forward import at_positions, final_hidden, prefix_cache
from abliterate.models.gradient_memory import frozen, plan_memory, recomputed
from abliterate.models.head import Head, check_numbers
from abliterate.models.live_model import LiveModel
from abliterate.models.offload import offloaded_parameter
from abliterate.replies.openings import Opening


def attributed_bypass(
    live: LiveModel,
    directions: Float[Tensor, "candidates d_model"],
    harmful: Sequence[Sequence[int]],
    openings: Sequence[Opening],
) -> list[float]:
    """Return an estimate of the mean refusal score of harmful prompts with each unit direction ablated.

    The model must not stream from the disk: gradients go through all of it. Raises InputError, naming the prompt, where
    logits are NaN or infinite, and for an estimate that is.
    """
    model, memory, head = live.model, plan_memory(live.model), Head(live.model)
    # What is run again on the way back cannot read a cache of what was shared, which has moved on by then.
    opening_batch = prepare_openings(
        model, harmful, openings, live.batch_size, copies=memory.copies, share=not memory.recompute
    )
    strengths = torch.zeros(len(directions), requires_grad=True)
    with frozen(model), weakened(model, live.architecture, directions, strengths):
        # An inference tensor cannot be followed by autograd; a copy can.
        states = final_states(model, opening_batch).clone().requires_grad_()
        score = refusal_score(head, opening_batch, states, gradient=True).mean()
        above, through_head = torch.autograd.grad(score, [states, strengths], allow_unused=True)
        found = torch.zeros(len(directions)) if through_head is None else through_head
        prompts = opening_batch.prompts
        with (
            recomputed(model, live.architecture, memory),
            live.progress.step("attribution of every candidate", prompts.count, "prompts") as advance,
        ):
            for batch in prompts.batches:
                shared = prefix_cache(model, prompts.prefix, gradient=True)
                hidden = final_hidden(model, batch, shared, gradient=True)
                own = at_positions(hidden, batch, opening_batch.positions)
                found = found + torch.autograd.grad(own, strengths, above[0, list(batch.rows)])[0]
                advance(len(batch.rows))
    check_numbers(found, "the attribution of candidate {}".format)
    return (score.detach() + found).tolist()


@contextmanager
def weakened(
    model: PreTrainedModel,
    architecture: Architecture,
    directions: Float[Tensor, "candidates d_model"],
    strengths: Float[Tensor, " candidates"],
) -> Iterator[None]:
    """Inside the context, each direction is taken from what every writer writes as strongly as is said; gradients reach `strengths`."""
    with hooks_of() as hooks:
        for writer in architecture.writers:
            change = less_of(model, writer, directions, strengths)
            module = model.get_submodule(writer.hook)
            if writer.constant:
                bias = offloaded_parameter(model, f"{writer.module}.{writer.parameters[0].name}").detach()
                hooks.callback(at_output(module, partial(shifted, bias, change)).remove)
            else:
                hooks.callback((at_input if writer.hook_input else at_output)(module, change).remove)
            if architecture.tied and model.get_submodule(writer.module) is model.get_input_embeddings():
                assert architecture.head is not None
                hooks.callback(at_input(model.get_submodule(architecture.head), change).remove)
        yield


def less_of(
    model: PreTrainedModel,
    writer: Writer,
    directions: Float[Tensor, "candidates d_model"],
    strengths: Float[Tensor, " candidates"],
) -> Change:
    """Return the change of a stream that takes each direction from it, as the gains behind the writer have it."""
    bases, _ = writer_edits(model, writer, directions[:, None], 1.0)
    rows, each = bases.flatten(0, 1), bases.shape[1]

    def change(stream: Tensor) -> Tensor:
        vectors, own = stream.float(), rows.to(stream.device)
        amounts = strengths.to(stream.device).repeat_interleave(each)
        less: Tensor = vectors - ((vectors @ own.T) * amounts) @ own
        return less.to(stream.dtype)

    return change


def shifted(bias: Float[Tensor, " d_model"], change: Change, stream: Tensor) -> Tensor:
    """Return a stream with a bias that is part of it changed."""
    moved: Tensor = stream + (change(bias[None])[0] - bias)
    return moved
