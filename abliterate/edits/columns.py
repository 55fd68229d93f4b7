"""The norm-preserving form of an edit: what each input writes loses its part along the directions and keeps its length.

`w_j <- |w_j| normalize(w_j - R^T R w_j)` for each vector along the residual axis: the columns of a linear map `[out, in]`, the
rows of an embedding. It is silent as the projection is. To give the *rows* of a linear map their length back is not: that
scales the numbers of the stream apart, and puts the direction back (docs/method.md, "The edit").
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.projection import BLOCK, project_out

NOTHING = 1e-4
"""A vector of which less than this share is left was all along the directions: what is left is rounding, and stays short."""


def project_columns(
    tensor: Float[Tensor, "..."], basis: Float[Tensor, "k d_model"], axis: int = -1
) -> Float[Tensor, "..."]:
    """Remove the component along `basis` from every vector of `tensor` along `axis`, and give each its length back.

    A bias, which is one vector, is projected. Computed in float32, block by block, with one cast back at the end. Raises
    InputError when that axis is not as long as the basis.
    """
    if tensor.dim() == 1:
        return project_out(tensor, basis, axis=axis)
    vectors = tensor.movedim(axis, -1)
    edited = torch.empty(vectors.shape, dtype=tensor.dtype, device=tensor.device)
    flat = vectors.reshape(-1, vectors.shape[-1])
    target = edited.view(-1, vectors.shape[-1])
    count = max(1, BLOCK // vectors.shape[-1])
    for start in range(0, len(flat), count):
        own = flat[start : start + count].float()
        left = project_out(own, basis)
        before, after = own.norm(dim=-1, keepdim=True), left.norm(dim=-1, keepdim=True)
        longer = torch.where(after > NOTHING * before, before / after, 1.0)
        # Once more: a component at rounding level has grown with the vector.
        target[start : start + count] = project_out(left * longer, basis).to(tensor.dtype)
    return edited.movedim(-1, axis).contiguous()
