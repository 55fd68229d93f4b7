"""Directions of a self-organising map: where harmful states gather, minus the harmless mean. arXiv 2511.08379.

The map is that of the paper's code: 4 x 4, hexagonal, Euclidean, sigma .33, rate .01, 10,000 random steps, seed 0, weights begun
at random harmful states. The paper then picks some of its directions by a search, which is not done here: they come in the order
of how many states each neuron wins.
"""

from __future__ import annotations

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.extras import require

SIDE = 4
SIGMA, RATE, STEPS = 0.33, 0.01, 10_000


def som_directions(
    harmful: Float[Tensor, "prompts d_model"],
    harmless: Float[Tensor, "calm d_model"],
    side: int = SIDE,
    steps: int = STEPS,
    seed: int = 0,
) -> Float[Tensor, "neurons d_model"]:
    """Return a vector for each neuron that wins any harmful state, those that win most first.

    A map of one neuron gives the difference in means, as far as its rate lets it settle there.
    """
    require("study", "a self-organising map", "minisom")
    from minisom import MiniSom

    rows = harmful.double().numpy()
    made = MiniSom(
        side, side, rows.shape[1], sigma=SIGMA, learning_rate=RATE, topology="hexagonal",
        activation_distance="euclidean", random_seed=seed,
    )  # fmt: skip
    made.random_weights_init(rows)
    made.train(rows, steps, random_order=True)
    wins = numpy.zeros((side, side), dtype=int)
    for row in rows:
        wins[made.winner(row)] += 1
    neurons = made.get_weights().reshape(side * side, -1)
    order = [place for place in numpy.argsort(-wins.ravel(), kind="stable") if wins.ravel()[place]]
    return torch.from_numpy(neurons[order]) - harmless.double().mean(0)
