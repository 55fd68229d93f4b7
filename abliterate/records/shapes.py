"""The shapes of the records that we write."""

from __future__ import annotations

from abliterate.records.schema import Each, Either, Maybe

RATE = {"count": int, "total": int, "rate": Maybe(float), "low": Maybe(float), "high": Maybe(float)}
MEAN = {"mean": Maybe(float), "count": int, "low": Maybe(float), "high": Maybe(float)}
ESTIMATE = Either((RATE, MEAN))
SITE_STRENGTHS = Each(Either(([float], float)))
STRENGTHS_SHAPE = Either(([SITE_STRENGTHS], SITE_STRENGTHS))
"""Of all directions, or a list with those of each."""

POINT = {
    "pressure": Maybe(float), "refusals": int, "prompts": int, "kl": float, "incoherent": int, "strengths": STRENGTHS_SHAPE,
    "kept": Maybe(int), "kept_prompts": Maybe(int),
}  # fmt: skip
TENSOR = {
    "name": str, "norm_before": Maybe(float), "norm_after": Maybe(float),
    "component_before": Maybe(float), "component_after": Maybe(float),
}  # fmt: skip
REFUSALS = {"harmful_refusals": RATE, "harmless_refusals": RATE, "other_refusals": Maybe(Each(RATE))}
MODES = {"off": RATE, "on": RATE, "unfinished": RATE}
MANIFEST_SHAPE = {
    "abliterate": str,
    "versions": Each(str),
    "source": {"model": str, "revision": Maybe(str), "files": Each(str)},
    "target": Maybe(str),
    "seed": int,
    "command": [str],
    "prompts": Maybe(Each({"spec": str, "digest": Maybe(str)})),
    "direction": {"name": Maybe(str), "method": Maybe(str), "layer": Maybe(int), "position": Maybe(int),
                  "form": Maybe(str), "place": Maybe(str)},
    "selection": Maybe({"bypass": Maybe(float), "induce": Maybe(float), "kl": Maybe(float)}),
    "search": Maybe({
        "original": {"refusals": int, "prompts": int, "kept": Maybe(int), "kept_prompts": Maybe(int)},
        "chosen": int, "points": [POINT], "judge": Maybe(str), "max_lost": Maybe(float),
    }),
    "recipe": {"direction": Maybe(str), "directions": Maybe([str]), "strengths": STRENGTHS_SHAPE, "added": Maybe(float), "form": Maybe(str)},
    "trials": Maybe([{"layer": int, "position": int, "strength": float, "refused": int, "prompts": int}]),
    "tensors": [TENSOR],
    "proof": {
        "kind": str, "largest": Maybe(float), "limit": float, "holds": bool, "before": Maybe(float),
        "per_layer": [Maybe(float)],
    },
    "left_alone": [str],
    "left_behind": Maybe([str]),
    "edited_dtype": Maybe(str),
    "figures": Maybe({
        "reply_tokens": int, "original": REFUSALS, "edited": REFUSALS,
        "kl": {"first_token": MEAN, "first_token_answered": MEAN, "over_replies": MEAN},
        "thinking": Maybe({"room": int, "original": Each(MODES), "edited": Each(MODES), "kl_over_thoughts": MEAN}),
    }),
}  # fmt: skip

RUN_PARTS = {
    "prompts": Maybe(Each(Maybe({"spec": Maybe(str), "digest": Maybe(str)}))),
    "chat_template": Maybe({"file": Maybe(str), "digest": Maybe(str)}),
    "target": Maybe(str),
}
RECORD_PARTS = {
    **RUN_PARTS,
    "run": Maybe(RUN_PARTS),
    "source": Maybe({"model": Maybe(str), "revision": Maybe(str), "files": Maybe(Each(str))}),
    "abliterate": Maybe(str),
    "edited_dtype": Maybe(str),
}
"""What is read of the record beside any model that abliterate wrote, of whichever version: others may be missing."""

MANIFEST_PARTS = {
    **RECORD_PARTS,
    "direction": Maybe({"layer": Maybe(int)}),
    "proof": Maybe({"holds": Maybe(bool)}),
}
"""What is read of a manifest besides."""

REPLY = {"prompt": str, "reply": str, "label": Maybe(str), "refused": bool}
GRID = [[Maybe(float)]]
PLANE = {"layer": int, "explained": [Maybe(float)], "harmful": GRID, "harmless": GRID}
CLIFF = {"thoughts": int, "mean": [float], "low": [float], "high": [float]}
OBSERVED = {
    "format": int,
    "separation": {"positions": [int], "instruction_end": Maybe(int), "layers": [int], "auc": GRID, "d": GRID},
    "pca": {"position": int, "prompts": {"harmful": [str], "harmless": [str]}, "layers": [PLANE]},
    "candidates": [{"layer": int, "position": int, "bypass": Maybe(float), "induce": Maybe(float), "kl": Maybe(float)}],
    "chosen": {"layer": int, "position": int},
    "replies": {"original": Each([REPLY]), "edited": Each([REPLY])},
    "cliff": Maybe({"layer": int, "places": [str], "harmful": CLIFF, "harmless": CLIFF}),
    "words": Maybe({"vocabulary": int, "directions": [{"along": [str], "against": [str]}]}),
}

LABELS_SHAPE = {"complied": RATE, "hedged": RATE, "refused": RATE, "incoherent": RATE}
PAIRED = {"gained": int, "lost": int, "p": Maybe(float), "test": str}
DIFFERENCE = {"value": Maybe(float), "low": Maybe(float), "high": Maybe(float), "p": Maybe(float), "test": Maybe(str)}
EVALUATED = {
    "format": int,
    "model": str,
    "against": Maybe(str),
    "settings": {},
    "notes": Maybe([str]),
    "sets": Each({
        "model": LABELS_SHAPE, "against": Maybe(LABELS_SHAPE), "paired": Maybe(PAIRED),
        "by_category": Maybe(Each({"model": RATE, "against": Maybe(RATE)})),
    }),
    "figures": Each({
        "model": Maybe(ESTIMATE), "against": Maybe(ESTIMATE), "difference": Maybe(DIFFERENCE), "unit": Maybe(str),
    }),
    "by_length": Maybe([{"tokens": int}]),
    "late_refusals": Maybe(Each({"model": RATE, "against": Maybe(RATE)})),
    "tasks": Maybe(Each(Each({"model": Maybe(ESTIMATE), "against": Maybe(ESTIMATE)}))),
    "replies": {"model": Each([REPLY]), "against": Maybe(Each([REPLY]))},
}  # fmt: skip
