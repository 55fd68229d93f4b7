"""A safety vector from single neurons: the inputs of each MLP's down projection, by activation times gradient.

`A_n = (a_n - mean harmless a_n) dF/da_n`, F the log-odds that the reply opens as a refusal; integrated gradients (Sundararajan et
al. 2017, arXiv 1703.01365) check that the parts sum to the whole. Whether few neurons hold most of it is asked beside shuffled
labels, and by setting the top ones to their harmless mean, beside random ones of the same layers and size.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import numpy
import torch
from jaxtyping import Float
from torch import Tensor, nn

from abliterate.errors import InputError
from abliterate.interventions.hooks import at_input, hooks_of
from abliterate.models.forward import final_hidden
from abliterate.models.head import Head
from abliterate.models.live_model import LiveModel
from abliterate.models.offload import offloaded_parameter
from abliterate.studies.replies import Tokens
from abliterate.studies.upper import check_gradients, padded

Activations = Mapping[str, Float[Tensor, "rows neurons"]]
"""The neurons of each MLP at the last token of each row, by module."""

STEPS = 16
"""Of integrated gradients."""

SHARE = 0.5
TOPS = (1, 4, 16, 64, 256, 1024, 4096)
SPARSE = 0.001
"""Share of the neurons that may hold half of the score where they are called sparse."""


@dataclass(frozen=True)
class Neurons:
    """The MLPs of a model whose neurons can be told apart: a matrix reads them, and writes to the stream."""

    live: LiveModel
    modules: tuple[str, ...]

    @classmethod
    def of(cls, live: LiveModel) -> Neurons:
        """Return those of a model. Raises InputError where it has none, and as `check_gradients`."""
        check_gradients(live)
        names = []
        for writer in live.architecture.writers:
            module = live.model.get_submodule(writer.module)
            if writer.site == "mlp" and not writer.constant and isinstance(module, nn.Linear):
                names.append(writer.module)
        if not names:
            raise InputError(
                "this model has no MLP with a down projection of its own, so that no neuron can be told from another; leave "
                "attribution away with --vector"
            )
        return cls(live, tuple(dict.fromkeys(names)))

    def activations(self, prompts: Sequence[Tokens]) -> dict[str, Float[Tensor, "rows neurons"]]:
        """Return the neurons at the last token of each prompt."""
        batch = padded(self.live, prompts)
        ends = batch.lengths - 1
        found: dict[str, Tensor] = {}

        def look(name: str, given: Tensor) -> Tensor:
            found[name] = given[torch.arange(len(given)), ends].detach()
            return given

        with torch.no_grad(), hooks_of() as hooks:
            for name in self.modules:
                module = self.live.model.get_submodule(name)
                hooks.callback(at_input(module, partial(look, name)).remove)
            final_hidden(self.live.model, batch, gradient=True)
        return found

    @contextmanager
    def replaced(self, values: Activations, ends: Tensor) -> Iterator[None]:
        """Inside the context the neurons at a token of each row are these."""

        def change(name: str, given: Tensor) -> Tensor:
            at = torch.zeros(given.shape[:2], dtype=torch.bool, device=given.device)
            at[torch.arange(len(given)), ends] = True
            return torch.where(at[:, :, None], values[name].to(given)[:, None], given)

        with hooks_of() as hooks:
            for name in values:
                module = self.live.model.get_submodule(name)
                hooks.callback(at_input(module, partial(change, name)).remove)
            yield

    def score(
        self, prompts: Sequence[Tokens], openings: Sequence[int], values: Activations, *, gradient: bool = False
    ) -> Float[Tensor, " rows"]:
        """Return the log-odds that the first token of the reply is one of `openings`, with the neurons at its place as given."""
        batch = padded(self.live, prompts)
        ends = batch.lengths - 1
        with self.replaced(values, ends), torch.set_grad_enabled(gradient):
            hidden = final_hidden(self.live.model, batch, gradient=True)
            rows = hidden[torch.arange(len(hidden)), ends]
            log_probs = Head(self.live.model).log_probs(rows, gradient=True)
            chosen = torch.zeros(log_probs.shape[1], dtype=torch.bool, device=log_probs.device)
            chosen[list(openings)] = True
            inside, outside = (log_probs.masked_fill(~mask, -torch.inf).logsumexp(-1) for mask in (chosen, ~chosen))
            return inside - outside


@dataclass(frozen=True)
class Attributed:
    """What each neuron adds to the refusal log-odds, over prompts, and what neurons there are."""

    neurons: Neurons
    parts: Mapping[str, Float[Tensor, "rows neurons"]]

    @property
    def total(self) -> Float[Tensor, " neurons"]:
        """Return the mean over prompts, the neurons of all MLPs in one row."""
        return torch.cat([self.parts[name].double().mean(0) for name in self.neurons.modules]).cpu()


def attributed(
    neurons: Neurons, prompts: Sequence[Tokens], harmless: Activations, openings: Sequence[int]
) -> Attributed:
    """Return activation minus the harmless mean, times gradient, neuron by neuron. Raises InputError for gradients of zero."""
    values = leaves(neurons.activations(prompts))
    gradients = gradients_of(neurons, prompts, openings, values)
    means = {name: rows.float().mean(0) for name, rows in harmless.items()}
    parts = {name: (values[name].detach().float() - means[name]) * gradients[name] for name in values}
    return Attributed(neurons, parts)


def leaves(values: Activations) -> dict[str, Tensor]:
    """Return values that gradients reach."""
    return {name: value.detach().clone().requires_grad_() for name, value in values.items()}


def gradients_of(
    neurons: Neurons, prompts: Sequence[Tokens], openings: Sequence[int], values: Activations
) -> dict[str, Float[Tensor, "rows neurons"]]:
    """Return the gradient of each prompt's score. Raises InputError where all of them are zero, or one is no number."""
    with torch.enable_grad():
        score = neurons.score(prompts, openings, values, gradient=True).sum()
        found = torch.autograd.grad(score, [values[name] for name in values])
    length = sum(float(one.float().square().sum()) for one in found)
    if not 0 < length < float("inf"):
        raise InputError(f"the gradient of the refusal log-odds is {length}; take other phrases, or --dtype float32")
    return {name: one.float() for name, one in zip(values, found, strict=True)}


@dataclass(frozen=True)
class Completeness:
    """The sum of all parts against the score's change from the harmless mean, over prompts."""

    parts: float
    change: float

    @property
    def error(self) -> float:
        """Return how far they differ, as a share of the change."""
        return abs(self.parts - self.change) / max(abs(self.change), 1e-9)

    def to_json(self) -> dict[str, float]:
        """Return all of it."""
        return {"sum": self.parts, "change": self.change, "error": self.error}


def integrated(
    neurons: Neurons, prompts: Sequence[Tokens], harmless: Activations, openings: Sequence[int], steps: int = STEPS
) -> tuple[Attributed, Completeness]:
    """Return integrated gradients from the harmless mean, all neurons at the place together, and whether they sum to the change."""
    actual = neurons.activations(prompts)
    start = {name: harmless[name].to(rows).mean(0).expand_as(rows) for name, rows in actual.items()}
    sums = {name: torch.zeros_like(rows, dtype=torch.float32) for name, rows in actual.items()}
    for step in range(steps):  # the midpoint rule
        share = (step + 0.5) / steps
        between = leaves({name: start[name] + share * (rows - start[name]) for name, rows in actual.items()})
        for name, one in gradients_of(neurons, prompts, openings, between).items():
            sums[name] += one / steps
    parts = {name: (actual[name] - start[name]).float() * sums[name] for name in actual}
    change = neurons.score(prompts, openings, actual) - neurons.score(prompts, openings, start)
    whole = float(sum(one.double().sum() for one in parts.values()))
    return Attributed(neurons, parts), Completeness(whole, float(change.double().sum()))


def vector_of(
    neurons: Neurons, total: Float[Tensor, " neurons"], contrast: Float[Tensor, " neurons"], layer: int, top: int
) -> Float[Tensor, " d_model"]:
    """Return what the top neurons below a layer write more of where prompts are refused: `sum (refused - answered) W[:, n]`.

    `contrast` is the difference of mean activations. Raises InputError where no neuron of those layers adds anything.
    """
    live, start = neurons.live, 0
    layers = {writer.module: writer.layer for writer in live.architecture.writers}
    allowed = torch.zeros_like(total)
    places: list[tuple[str, int, int]] = []
    for name in neurons.modules:
        count = live.model.get_submodule(name).in_features
        own = layers[name]
        if own is not None and own < layer:
            allowed[start : start + count] = total[start : start + count].abs()
            places.append((name, start, count))
        start += count
    chosen = torch.zeros_like(total)
    best = allowed.topk(min(top, len(allowed))).indices
    chosen[best] = contrast[best].double() * (allowed[best] > 0)
    written = [
        offloaded_parameter(live.model, f"{name}.weight").double().cpu() @ chosen[begin : begin + count]
        for name, begin, count in places
    ]
    vector = torch.stack(written).sum(0) if written else torch.zeros(live.architecture.d_model)
    if not bool(vector.any()):
        raise InputError(f"no neuron below layer {layer} adds to the refusal; take a later --layer")
    return vector


@dataclass(frozen=True)
class Concentration:
    """How few neurons hold the attribution: those that carry half, Gini (1: one neuron), and the participation ratio."""

    half: int
    gini: float
    participation: float

    def to_json(self) -> dict[str, float | int]:
        """Return all of it."""
        return {"neurons_for_half": self.half, "gini": self.gini, "participation": self.participation}


def concentration(total: Float[Tensor, " neurons"]) -> Concentration:
    """Return how concentrated a list of parts is, whatever their signs.

    Examples:
        >>> concentration(torch.tensor([0.0, 0.0, 0.0, 2.0]))
        Concentration(half=1, gini=0.75, participation=1.0)
    """
    sizes = numpy.sort(total.abs().double().numpy())
    whole, count = sizes.sum(), len(sizes)
    half = int(numpy.searchsorted(numpy.cumsum(sizes[::-1]), SHARE * whole) + 1)
    ranks = numpy.arange(1, count + 1)
    gini = float(2 * (ranks * sizes).sum() / (count * whole) - (count + 1) / count)
    return Concentration(half, gini, float(whole**2 / (sizes**2).sum()))


Removed = Callable[[Sequence[int]], float]
"""What is left of the score where these neurons are at their harmless mean: 1 with none, 0 with all."""


def kept_score(neurons: Neurons, prompts: Sequence[Tokens], harmless: Activations, openings: Sequence[int]) -> Removed:
    """Return what tells which share of the score's change from the harmless mean is left without some neurons."""
    actual = neurons.activations(prompts)
    flat = torch.cat([actual[name] for name in neurons.modules], dim=1)
    means = torch.cat([harmless[name].to(flat).mean(0) for name in neurons.modules])
    sizes = [actual[name].shape[1] for name in neurons.modules]

    def scored(values: Tensor) -> float:
        parts = torch.split(values, sizes, dim=1)
        return float(neurons.score(prompts, openings, dict(zip(neurons.modules, parts, strict=True))).double().mean())

    whole, nothing = scored(flat), scored(means.expand_as(flat))

    def left(places: Sequence[int]) -> float:
        values = flat.clone()
        values[:, list(places)] = means[list(places)]
        return (scored(values) - nothing) / (whole - nothing)

    return left


def alike(
    total: Float[Tensor, " neurons"],
    sizes: Float[Tensor, " neurons"],
    layers: Sequence[int],
    top: Sequence[int],
    seed: int,
) -> list[int]:
    """Return as many random neurons, each of the same layer as one of `top` and of about its size, none of them in `top`."""
    rng = numpy.random.default_rng([seed, 8])
    own = numpy.asarray(layers)
    amounts = sizes.double().numpy()
    taken = set(top)
    found: list[int] = []
    for place in top:
        near = numpy.flatnonzero(own == own[place])
        near = near[numpy.argsort(numpy.abs(amounts[near] - amounts[place]))]
        free = [int(one) for one in near[: 64 + len(taken)] if int(one) not in taken][:32]
        if free:
            chosen = free[int(rng.integers(len(free)))]
            taken.add(chosen)
            found.append(chosen)
    return found
