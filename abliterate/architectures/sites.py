"""The sites of an edit: where in a layer, or before all of them, something writes to the residual stream."""

from __future__ import annotations

from typing import Literal, get_args

Site = Literal["embed", "attn", "mlp"]
SITES: tuple[Site, ...] = get_args(Site)
