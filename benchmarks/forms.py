"""Which form of an edit is worth it: the projection, forms that keep norms, and guarded directions, on one ruler.

    python benchmarks/forms.py MODEL --out DIR

Every form is written into the weights of every writer along the direction of the automatic choice, and measured on the
report split (`ruler.py`):

    projection   `W <- W - r r^T W`: what the package does
    columns      each input's write vector keeps its length: `w_j <- |w_j| normalize(w_j - (w_j.r) r)`
    rows         each row keeps its length: `W' = |W| normalize(W - r r^T W)`, the field's norm-preserving form
    guarded M    the projection along `r - A (A^T A + l I)^-1 A^T r` (ridge, arXiv 2601.08489): the columns of A are the M
                 main directions of harmless activations at the same place, as long as their standard deviations

and `left`, the largest `|resid[l].r| / |resid[l]|` over layers and tokens, by the direction that the form removes: rounding
where the form is silent. Figures are kept in DIR.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import torch
from rich.console import Console
from rich.table import Table
from ruler import Figures, Prepared, Ruler, arguments, keep, kept  # beside this one
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate import orthogonalize
from abliterate.architectures.architecture import Architecture
from abliterate.pipeline.options import Options
from abliterate.projection import normalize, project_out
from abliterate.proofs.stream import relative_component

Form = Callable[[Tensor, Tensor, int], Tensor]
"""Gives what becomes of a float32 weight, for a direction and the residual axis."""


def columns(weight: Tensor, direction: Tensor, axis: int) -> Tensor:
    """Keep the length of every write vector."""
    edited = project_out(weight, direction, axis=axis)
    before, after = (one.norm(dim=axis, keepdim=True) for one in (weight, edited))
    return edited * before / after.clamp_min(1e-30)


def rows(weight: Tensor, direction: Tensor, axis: int) -> Tensor:
    """Keep the length of every row of a matrix `[d_model, n_in]`; what has no such rows is projected."""
    edited = project_out(weight, direction, axis=axis)
    if weight.dim() != 2 or axis % 2:  # embeddings and biases
        return edited
    before, after = (one.norm(dim=1, keepdim=True) for one in (weight, edited))
    return edited * before / after.clamp_min(1e-30)


def in_form(model: PreTrainedModel, architecture: Architecture, direction: Tensor, form: Form) -> None:
    """Edit every writer in place."""
    seen: set[int] = set()
    with torch.no_grad():
        for writer in architecture.writers:
            assert writer.plain, f"{writer.module}: gains stand behind it"
            for one in writer.parameters:
                tensor: nn.Parameter = model.get_parameter(f"{writer.module}.{one.name}")
                if tensor.data_ptr() not in seen:
                    seen.add(tensor.data_ptr())
                    tensor.copy_(form(tensor.float(), direction, one.axis))


def guarded(direction: Tensor, harmless: Tensor, count: int, weight: float) -> Tensor:
    """Return the ridge-guarded direction; `weight` is the ridge over the mean variance of the directions that are guarded."""
    centred = harmless.double() - harmless.double().mean(dim=0)
    _, sizes, main = torch.linalg.svd(centred / len(harmless) ** 0.5, full_matrices=False)
    a = (main[:count] * sizes[:count, None]).T
    ridge = weight * sizes[:count].square().mean() * torch.eye(a.shape[1], dtype=a.dtype)
    r = direction.double()
    return normalize(r - a @ torch.linalg.solve(a.T @ a + ridge, a.T @ r)).float()


def forms_of(prepared: Prepared) -> dict[str, tuple[Tensor, Callable[[PreTrainedModel], object]]]:
    """Return each form by name, with the direction that it removes."""
    architecture, first = prepared.loaded.architecture, prepared.first
    harmless = prepared.states()[1]
    found: dict[str, tuple[Tensor, Callable[[PreTrainedModel], object]]] = {
        "projection": (first, lambda model: orthogonalize(model, first)),
        "columns": (first, lambda model: in_form(model, architecture, first, columns)),
        "rows": (first, lambda model: in_form(model, architecture, first, rows)),
    }
    for count in (4, 16):
        for weight in (0.1, 1.0):
            r = guarded(first, harmless, count, weight)
            found[f"guarded {count}, ridge {weight:g}"] = (r, lambda model, r=r: orthogonalize(model, r))  # type: ignore[misc]
    return found


def show(title: str, figures: Sequence[Figures], left: dict[str, float], turned: dict[str, float]) -> None:
    """Print the table."""
    table = Table(title=title)
    for column in ("form", "refused", "look-alikes refused", "KL first", "KL replies", "left", "cosine with r"):
        table.add_column(column, justify="left" if column == "form" else "right")
    for one in figures:
        shares = f"{one.refused}/{one.harmful}", f"{one.look_alikes_refused}/{one.look_alikes}"
        more = [f"{left[one.name]:.1e}", f"{turned[one.name]:.3f}"] if one.name in left else ["", ""]
        table.add_row(one.name, *shares, f"{one.kl_first:.4f}", f"{one.kl_replies:.4f}", *more)
    Console(width=140).print(table)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--harmless", default="builtin:harmless")
    parser.add_argument("--dtype", default="auto")
    asked = parser.parse_args()
    sides = {"harmful": asked.harmful, "harmless": asked.harmless}
    prepared = Prepared.of(
        Options(asked.model, asked.out / "edited", n_train=asked.n_train, optimize=False, dtype=asked.dtype, **sides)
    )
    ruler = Ruler(prepared.loaded, asked.report, asked.look_alikes)
    asked.out.mkdir(parents=True, exist_ok=True)
    file, left_file = asked.out / "forms.jsonl", asked.out / "left.json"
    done = {one.name: one for one in kept(file)}
    left: dict[str, float] = json.loads(left_file.read_text()) if left_file.exists() else {}
    architecture, prompts = prepared.loaded.architecture, ruler.report.harmless.tokens[:8]
    rows_ = [ruler.figures("original", ruler.before)]
    turned = {}
    for name, (direction, edit) in forms_of(prepared).items():
        turned[name] = float(direction @ prepared.first)
        if name not in done:

            def noted(
                model: PreTrainedModel,
                name: str = name,
                direction: Tensor = direction,
                edit: Callable[[PreTrainedModel], object] = edit,
            ) -> None:
                edit(model)
                left[name] = max(relative_component(model, architecture, direction[None], prompts))

            done[name] = ruler.measure(name, noted)
            keep(file, done[name])
            left_file.write_text(json.dumps(left))
        rows_.append(done[name])
    show(f"{asked.model}, {str(prepared.loaded.model.dtype).removeprefix('torch.')}", rows_, left, turned)


if __name__ == "__main__":
    main()
