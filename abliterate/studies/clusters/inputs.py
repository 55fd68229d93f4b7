"""A direction for each prompt, in three ways: by gradient points, against an anchor, or the raw state.

- *gradient*: from the point where the prompt is answered to the one where it is refused (`walks`);
- *concept*: `normalize(h - a)`, `a` the matched harmless phrase, the harmless mean, the nearest of a few harmless centroids,
  or the anchor point of the gradient;
- *activation*: `h` minus the harmless mean, as a self-organising map takes it (arXiv 2511.08379).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy
import torch
from jaxtyping import Float
from torch import Tensor

from abliterate.activations.cache import read_cached, write_cached
from abliterate.activations.places import capture_places
from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.prompts.texts import Text
from abliterate.storage.record_log import RecordLog
from abliterate.studies.clusters.kmeans import spherical_kmeans
from abliterate.studies.clusters.margin import Margin, alike, check_exact
from abliterate.studies.clusters.openings import Targets
from abliterate.studies.clusters.options import ANCHORS, METHODS, Step
from abliterate.studies.clusters.walks import Walk, walks_of
from abliterate.studies.replies import Tokens

PLACE = "prompt_end"

NEAREST = 4
"""Harmless centroids of which the nearest may be the anchor."""


@dataclass(frozen=True)
class InputDirections:
    """A direction for each of some prompts, at one layer; unit rows, but for `activation`.

    `kept` are the places of the prompts in what was given: those without a usable gradient are left out, and `dropped` says
    how many for which reason. `walks` are there by gradient alone, in the order of `kept`.
    """

    vectors: Float[Tensor, "prompts d_model"]
    states: Float[Tensor, "prompts d_model"]
    layer: int
    method: str
    kept: tuple[int, ...]
    walks: tuple[Walk, ...] = ()
    dropped: Mapping[str, int] | None = None

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def rows(self) -> numpy.ndarray[Any, numpy.dtype[numpy.float64]]:
        """Return the directions as numbers that clusters are made of."""
        return self.vectors.double().numpy()

    def of(self, places: Sequence[int]) -> InputDirections:
        """Return the directions of some of the prompts, by their places in what was given."""
        own = [row for row, place in enumerate(self.kept) if place in set(places)]
        return replace(
            self,
            vectors=self.vectors[own],
            states=self.states[own],
            kept=tuple(self.kept[row] for row in own),
            walks=tuple(self.walks[row] for row in own) if self.walks else (),
        )


def input_directions(
    live: LiveModel,
    texts: Sequence[Text],
    layer: int,
    method: str = "gradient",
    *,
    targets: Targets | None = None,
    harmless: Sequence[Text] = (),
    anchor: str = "matched",
    step: Step = "scaled",
    kept: RecordLog | None = None,
) -> InputDirections:
    """Return the direction of each prompt at the last token before its reply.

    `targets` are the openings that `f(Y)` scores, which gradients need; `harmless` are the matched harmless prompts, in the
    same order, which the other methods need. `kept` holds what an interrupted study has left. Raises InputError for an
    unknown method or anchor, what a method lacks, a model through which no gradient can be trusted, gradients that are NaN
    (naming the prompt), and a layer where all of them vanish.

    Examples:
        >>> form = load_forms()["question"]
        >>> texts = [Text.of(tokenizer, form, phrase) for phrase in ("pick a lock", "forge a coin")]
        >>> calm = [Text.of(tokenizer, form, phrase) for phrase in ("paint a fence", "draw a coin")]
        >>> own = input_directions(LiveModel.of(model, tokenizer), texts, 5, "concept", harmless=calm)
        >>> own.vectors.shape
        torch.Size([2, 160])
    """
    for name, word, known in (("--method", method, METHODS), ("--anchor", anchor, ANCHORS)):
        if word not in known:
            raise InputError(f"{name} {word}: unknown; choose among {', '.join(known)}")
    if method == "gradient":
        return by_gradient(live, texts, layer, targets, step, kept)
    if len(harmless) != len(texts):
        raise InputError(
            f"{len(harmless)} harmless prompts for {len(texts)} harmful ones; give the matched one of each"
        )
    both = capture_places(live, [*texts, *harmless], (PLACE,), [layer], kept=kept).at(PLACE, layer).float()
    states, calm = both[: len(texts)], both[len(texts) :]
    everyone = tuple(range(len(texts)))
    if method == "activation":
        return InputDirections(states - calm.mean(0), states, layer, method, everyone)
    if anchor == "gradient":
        walked = by_gradient(live, texts, layer, targets, step, kept)
        away = torch.stack([one.state - one.anchor for one in walked.walks])
        return concept(away, walked.states, layer, walked.kept)
    return concept(states - anchors_of(anchor, states, calm), states, layer, everyone)


def anchors_of(
    anchor: str, states: Float[Tensor, "prompts d_model"], calm: Float[Tensor, "calm d_model"]
) -> Float[Tensor, "*prompts d_model"]:
    """Return what each state is held against."""
    if anchor == "matched":
        return calm
    mean = calm.mean(0)
    if anchor == "mean":
        return mean
    parts = spherical_kmeans((calm - mean).double().numpy(), min(NEAREST, len(calm)))
    labels = torch.from_numpy(parts.labels)
    centroids = torch.stack([calm[labels == place].mean(0) for place in range(parts.k)])
    return centroids[torch.cdist(states, centroids).argmin(1)]


def concept(
    away: Float[Tensor, "prompts d_model"], states: Float[Tensor, "prompts d_model"], layer: int, kept: tuple[int, ...]
) -> InputDirections:
    """Return unit concept vectors; a prompt whose state is its anchor has none."""
    lengths = away.norm(dim=-1)
    own = [row for row, length in enumerate(lengths.tolist()) if length > 0]
    if not own:
        raise InputError(
            f"layer {layer}: every prompt has the state of its anchor, so that there is no direction; take another --layer"
        )
    dropped = {"no distance from the anchor": len(away) - len(own)} if len(own) < len(away) else {}
    return InputDirections(
        away[own] / lengths[own, None],
        states[own],
        layer,
        "concept",
        tuple(kept[row] for row in own),
        dropped=dropped,
    )


def by_gradient(
    live: LiveModel,
    texts: Sequence[Text],
    layer: int,
    targets: Targets | None,
    step: Step,
    kept: RecordLog | None,
) -> InputDirections:
    """Return the unit vectors between gradient points. Raises InputError as `input_directions`."""
    if targets is None:
        raise InputError("a direction by gradient needs the openings that f(Y) scores; give targets")
    check_exact(live)
    walks = walks_once(live, layer, [text.tokens for text in texts], targets, step, kept)
    for number, one in enumerate(walks, 1):
        if one.broken:
            raise InputError(
                f"layer {layer}: the gradient of prompt {number} of {len(texts)} is NaN or infinite; try another --layer, or "
                "check the checkpoint"
            )
    if all(one.flat for one in walks):
        raise InputError(f"layer {layer}: the gradients of all {len(walks)} prompts vanish; take another --layer")
    reasons: dict[str, Callable[[Walk], bool]] = {
        "no gradient": lambda one: one.flat,
        "saturated": lambda one: one.saturated and not one.flat,
    }
    dropped = {why: count for why, holds in reasons.items() if (count := sum(map(holds, walks)))}
    own = [row for row, one in enumerate(walks) if not one.flat and not one.saturated]
    if not own:
        raise InputError(
            f"layer {layer}: f is beyond 8 for all {len(walks)} prompts, where gradients say nothing; take another --layer"
        )
    away = torch.stack([walks[row].point - walks[row].anchor for row in own])
    return InputDirections(
        torch.nn.functional.normalize(away, dim=-1),
        torch.stack([walks[row].state for row in own]),
        layer,
        "gradient",
        tuple(own),
        tuple(walks[row] for row in own),
        dropped,
    )


def walks_once(
    live: LiveModel, layer: int, prompts: Sequence[Tokens], targets: Targets, step: Step, kept: RecordLog | None
) -> list[Walk]:
    """Return each prompt's walks: those that an interrupted study has kept, or made now, group after group, and kept."""
    about = [layer, [*map(list, targets.refusal)], [*map(list, targets.answer)], targets.scored, step]
    found = [known_walk(kept, ["walk", list(prompt), about], live.architecture.d_model) for prompt in prompts]
    missing = [place for place, one in enumerate(found) if one is None]
    with live.progress.step("walking along gradients", len(prompts), "prompts") as advance:
        advance(len(prompts) - len(missing))
        for group in alike([prompts[place] for place in missing], targets):
            places = [missing[row] for row in group]
            walked = walks_of(Margin(live, layer, [prompts[place] for place in places], targets), step)
            for place, one in zip(places, walked, strict=True):
                found[place] = one
                keep_walk(kept, ["walk", list(prompts[place]), about], one)
            advance(len(group))
    return [one for one in found if one is not None]


def known_walk(kept: RecordLog | None, key: object, d_model: int) -> Walk | None:
    """Return a walk that was kept, None where there is none."""
    if kept is None:
        return None
    path = kept.file(key)
    known, tensors = kept.known(path.stem), read_cached(path, (4, d_model), torch.float32)
    if known is None or tensors is None:
        return None
    state, gradient, point, anchor = (row.clone() for row in tensors)
    return Walk(state, gradient, point, anchor, tuple(known["up"]), tuple(known["down"]))


def keep_walk(kept: RecordLog | None, key: object, one: Walk) -> None:
    """Keep a walk: its states in a file of their own, f along it in the records."""
    if kept is None or one.broken:
        return
    path = kept.file(key)
    with kept.writing():
        write_cached(path, torch.stack([one.state, one.gradient, one.point, one.anchor]))
    kept.add(path.stem, {"up": list(one.up), "down": list(one.down)})
