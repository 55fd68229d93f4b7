"""How much of each token's residual stream lies along a direction: what the lab colours tokens by."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.architectures.architecture import Architecture
from abliterate.architectures.streams import lanes, resid_of
from abliterate.chat.sides import ChatSide
from abliterate.errors import InputError
from abliterate.models.batches import Batch, model_device
from abliterate.models.forward import final_hidden
from abliterate.models.head import NOT_NUMBERS

LEAST_LENGTH = 1e-12
"""Below it a stream is nothing, and nothing of it lies anywhere."""


def relative_component(
    stream: Float[Tensor, "tokens d_model"], basis: Float[Tensor, "k d_model"]
) -> Float[Tensor, " tokens"]:
    """Return the component along a unit direction in shares of the stream's length, from -1 to 1.

    Along the span of several orthonormal directions it is the length of the projection, from 0 to 1.
    """
    along = stream.float() @ basis.float().to(stream.device).T
    length: Tensor = along[:, 0] if len(basis) == 1 else along.norm(dim=1)
    whole: Tensor = stream.float().norm(dim=1)
    return length / whole.clamp_min(LEAST_LENGTH)


def components(
    side: ChatSide, architecture: Architecture, ids: Sequence[int], basis: Float[Tensor, "k d_model"]
) -> Float[Tensor, "layers tokens"]:
    """Return the relative component of `resid[0..L]` at each token, when a side reads `ids` in one pass.

    Of a stream with several lanes it is that of their mean. Raises InputError where the stream is NaN or infinite.
    """

    def keep(stream: Tensor) -> Tensor:
        apart = lanes(stream, architecture.d_model)[0]
        return relative_component(apart if apart.dim() == 2 else apart.mean(dim=1), basis).cpu()

    device = model_device(side.model)
    batch = Batch((0,), torch.tensor([list(ids)], device=device), torch.tensor([len(ids)], device=device))
    with side.active(), resid_of(side.model, architecture, keep) as streams:
        final_hidden(side.model, batch)
    found = torch.stack(streams)
    if not bool(torch.isfinite(found).all()):
        raise InputError(NOT_NUMBERS)
    return found
