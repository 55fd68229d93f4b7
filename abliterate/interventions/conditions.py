"""Where an intervention acts: conditional activation steering, Lee et al. 2024, arXiv 2409.05907 (CAST).

There the condition is the cosine of a prompt's mean activation with its projection on a condition vector, and decides on
the whole reply. Here it is the component along a unit direction, in the units of the stream: for each token inside
the pass (`Condition`), or for each row beforehand, at the last token of its prompt (`rows_where`).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from inspect import signature

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, find_architecture
from abliterate.architectures.wrappers import unwrapped
from abliterate.errors import InputError
from abliterate.interventions.hooks import Change, at_resid, check_finite, check_stream_layer, hooks_of, in_runs
from abliterate.projection import check_width, each_unit

UNDECIDED = "the condition was not decided, since its layer did not run; choose another layer for it"


@dataclass(frozen=True)
class Condition:
    """Holds at the tokens whose `resid[layer]` has more than `threshold` along a direction: `x·r > threshold`.

    `direction` is `[d_model]`, or one a row `[rows, d_model]`; its length does not count. `threshold` is in the units
    of the stream, as `mean_component` gives them; one number, or one a row `[rows]`. For "less than", turn both round.

    Each token is decided by itself, from what is known when the pass reaches `resid[layer]`: the interventions of contexts
    further out have been made there, the one that asks has not. So it acts only from there on, and in `generate` a
    token of the cache was treated as a pass over the whole text would treat it.

    Examples:
        >>> when = Condition(directions[4], layer=4, threshold=0.0)
        >>> when.holds(torch.stack([directions[4], -directions[4]])[None])  # [rows, length, d_model]
        tensor([[ True, False]])
    """

    direction: Float[Tensor, "*rows d_model"]
    layer: int
    threshold: float | Float[Tensor, " rows"]

    def __post_init__(self) -> None:
        """Raise InputError for a direction that is zero, NaN or infinite, and for a threshold that is NaN."""
        each_unit(self.direction)
        check_finite(self.threshold, "threshold", infinite=True)

    def components(self, stream: Float[Tensor, "rows length *lanes"]) -> Float[Tensor, "rows length"]:
        """Return `x·r` of each token in float32; where the stream has several lanes, of their mean."""
        unit = each_unit(self.direction.reshape(-1, self.direction.shape[-1])).to(stream.device)
        along = in_runs(stream, unit) @ unit[:, :, None]
        return along.reshape(*stream.shape[:2], -1).mean(dim=-1)

    def holds(self, stream: Float[Tensor, "rows length *lanes"]) -> Bool[Tensor, "rows length"]:
        """Return at which tokens the condition holds. Raises InputError for rows that cannot be shared out evenly."""
        limits = torch.as_tensor(self.threshold, dtype=torch.float32, device=stream.device).reshape(-1)
        along = self.components(stream)
        if len(along) % len(limits):
            raise InputError(
                f"{len(limits)} thresholds for a batch of {len(along)} rows; give one, one a row, or a divisor"
            )
        return along > limits.repeat_interleave(len(along) // len(limits))[:, None]

    def check(self, architecture: Architecture) -> None:
        """Raise InputError for a layer that the model has not, and for a direction of another width."""
        check_stream_layer(self.layer, architecture.depth)
        check_width(self.direction, architecture.d_model)


@dataclass(frozen=True)
class FromLastToken:
    """Holds from the last token of what is read first on: in `generate`, at the end of the prompt and at each token of the reply.

    Prompts must be padded on the left, and be read in one pass each: what came before keeps the stream that it had. A prompt
    may end with a part of the reply, from whose end on the intervention then acts.

    Examples:
        >>> with added(model, directions.difference(5), 5, when=FROM_LAST_TOKEN) as live:
        ...     generate(live, tokenizer, [prompt + begun for prompt, begun in texts], 32, share=False)
    """


FROM_LAST_TOKEN = FromLastToken()

When = Condition | FromLastToken | Bool[Tensor, " rows"] | None
"""Where an intervention acts: at tokens, in rows (each for a run of as many, as directions do), or everywhere."""


class Gate:
    """Chooses between what an intervention makes of the stream and the stream itself.

    `open` says so for each row `[rows]`, or for each token `[rows, length]` of the pass under way: None until that has
    reached the layer of the condition.
    """

    def __init__(self, rows: Bool[Tensor, " rows"] | None = None) -> None:
        self.open: Tensor | None = rows

    def choose(self, edited: Tensor, stream: Tensor) -> Tensor:
        """Return `edited` where the gate is open and `stream` elsewhere. Raises InputError when they do not match."""
        if self.open is None:
            raise InputError(UNDECIDED)
        gate = self.open.to(stream.device).reshape(-1)
        if self.open.dim() == 1 and len(stream) == 1:  # one row for all of them, as learned position embeddings have
            stream = stream.expand(len(gate), *stream.shape[1:])
            edited = edited.expand(stream.shape)
        if len(stream) % len(self.open) or stream.numel() % len(gate):
            raise InputError(
                f"`when` is given for {len(self.open)} rows, the batch has {len(stream)}; give one a row, or a divisor"
            )
        chosen = torch.where(gate[:, None], edited.reshape(len(gate), -1), stream.reshape(len(gate), -1))
        return chosen.reshape(stream.shape)


class LastTokenGate(Gate):
    """Is open at the last token of each pass."""

    def choose(self, edited: Tensor, stream: Tensor) -> Tensor:
        """Return `stream` with its last token as in `edited`. Raises InputError for a stream without tokens in a row."""
        if stream.dim() < 3:
            raise InputError(
                "an intervention from the last token on needs the stream as [rows, tokens, d_model]; this model writes "
                "its tokens in one list: act on all of them"
            )
        before = stream[:, :-1]
        return torch.cat([before.expand(len(edited), *before.shape[1:]), edited[:, -1:]], dim=1)


@contextmanager
def gate_of(model: PreTrainedModel, architecture: Architecture, when: When) -> Iterator[Gate | None]:
    """Inside the context, the gate knows where `when` holds, pass after pass; None where it is everywhere."""
    if isinstance(when, FromLastToken):
        yield LastTokenGate()
        return
    if not isinstance(when, Condition):
        yield None if when is None else Gate(when)
        return
    when.check(architecture)
    gate = Gate()

    def forget(stream: Tensor) -> Tensor:
        gate.open = None
        return stream

    def decide(stream: Tensor) -> Tensor:
        gate.open = when.holds(stream)
        return stream

    with ExitStack() as hooks:
        hooks.callback(at_resid(model, architecture, 0, forget).remove)
        hooks.callback(at_resid(model, architecture, when.layer, decide).remove)
        yield gate


def gated(change: Change, gate: Gate | None) -> Change:
    """Return the same change, made only where the gate is open."""
    return change if gate is None else lambda stream: gate.choose(change(stream), stream)


def rows_where(
    model: nn.Module,
    condition: Condition,
    input_ids: Int[Tensor, "rows length"],
    attention_mask: Int[Tensor, "rows length"] | None = None,
    architecture: Architecture | None = None,
) -> Bool[Tensor, " rows"]:
    """Run prompts once, and return for which the condition holds at their last token; padding is on either side.

    This is what `when` of any intervention takes, for the replies to these prompts: decided once, as in CAST, it acts
    on all of a row, from the embedding on, or on nothing of it. Interventions of contexts around take part.

    Examples:
        >>> chat = ChatFormat(tokenizer)
        >>> usual, odd = (mean_component(capture(model, tokenizer, one), directions[4])[4] for one in (harmless, harmful))
        >>> when = Condition(directions[4], 4, float(usual + odd) / 2)
        >>> [bool(rows_where(model, when, torch.tensor(chat.encode(side.prompts[:1])))) for side in (harmful, harmless)]
        [True, False]
    """
    live = unwrapped(model)
    found = architecture or find_architecture(live)
    condition.check(found)
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask
    body = live.base_model
    extra = {}
    if "position_ids" in signature(body.forward).parameters:
        extra["position_ids"] = (mask.cumsum(dim=1) - 1).clamp(min=0)  # as in `generate`: padding takes no place
    seen: list[Tensor] = []

    def keep(stream: Tensor) -> Tensor:
        seen[:] = [condition.holds(stream)]
        return stream

    with hooks_of() as hooks, torch.no_grad():
        hooks.callback(at_resid(live, found, condition.layer, keep).remove)
        body(input_ids=input_ids, attention_mask=mask, use_cache=False, **extra)
    if not seen:
        raise InputError(UNDECIDED)
    last = mask.shape[1] - 1 - mask.flip(1).argmax(dim=1)
    return seen[0].gather(1, last.to(seen[0].device)[:, None])[:, 0]
