"""Interventions on a live model as context managers: nothing is changed for good.

| context manager | what it does | source |
|---|---|---|
| `ablated`, `ablated_rows` | `y <- y - s R^T (R y)` on what every writer writes | Arditi et al. 2024, arXiv 2406.11717, section 2.4 |
| `added`, `added_rows` | `x <- x + a v` at one `resid[l]` | the same section (activation addition) |
| `amplified`, `calibrated`, `raised` | `x <- x + a t S^T`, `x <- x - t S^T + b s`, ... at one `resid[l]`, `t = ReLU(x S)` | arXiv 2502.15576 (features) |
| `affine` | `x <- x + (c - x·r) r` at every `resid[l]`, or some | Marshall et al. 2024, arXiv 2411.09003 (affine concept editing) |

Each takes `when`, which says where it acts: a `Condition` (decided token by token inside the pass), or one truth
value for each batch row, as `rows_where` decides it from the prompts before (conditional activation steering, Lee et al.
2024, arXiv 2409.05907). Where it does not hold, the stream is left as it is, bit for bit.

All of them hold in any pass of the model: `generate` with its cache, padding on either side, weights that accelerate
brings from memory or the disk. They nest: where two act at the same place, the outer acts first. A model that
torch.compile has traced runs eagerly inside, since compiled code never looks at hooks (`eager`). When the context ends,
by whatever way, the model is what it was.
"""

from abliterate.architectures.eager import eager
from abliterate.interventions.ablation import (
    ablated,
    ablated_rows,
    disturbed,
    projected,
    register,
    writer_edits,
)
from abliterate.interventions.addition import added, added_rows
from abliterate.interventions.affine import affine, mean_component
from abliterate.interventions.conditions import FROM_LAST_TOKEN, Condition, FromLastToken, Gate, When, rows_where
from abliterate.interventions.features import amplified, calibrated, raised
from abliterate.interventions.hook_form import hook_form
from abliterate.interventions.hooks import Strength, on_first, project_rows

__all__ = [
    "FROM_LAST_TOKEN",
    "Condition",
    "FromLastToken",
    "Gate",
    "Strength",
    "When",
    "ablated",
    "ablated_rows",
    "added",
    "added_rows",
    "affine",
    "amplified",
    "calibrated",
    "disturbed",
    "eager",
    "hook_form",
    "mean_component",
    "on_first",
    "project_rows",
    "projected",
    "raised",
    "register",
    "rows_where",
    "writer_edits",
]
