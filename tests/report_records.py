"""Records of a checkpoint as abliterate writes them, small, for the tests of the report."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

from abliterate.evaluation.statistics import Rate

LAYERS, PROMPTS = 6, 25
HOSTILE = (
    "<script>window.hacked = 1</script></script><img src=x onerror='window.hacked = 2'>{{7*7}}\u2028\u202egnirts"
    '\u202c&lt;b&gt; <a href="https://example.org">link</a> ${window.hacked = 3} %{x} <!-- <script>'
)


def rate(count: int, total: int) -> dict[str, Any]:
    return Rate(count, total).to_json()


def mean(value: float) -> dict[str, Any]:
    return {"mean": value, "count": PROMPTS, "low": value / 2, "high": value * 2}


def manifest() -> dict[str, Any]:
    tensors = [
        {"name": f"model.layers.{layer}.{name}", "norm_before": 13.5 + layer, "norm_after": 13.25 + layer,
         "component_before": 1.5, "component_after": 2e-6, "leak": None}
        for layer in range(LAYERS) for name in ("attn.o_proj.weight", "mlp.down_proj.weight")
    ]  # fmt: skip
    strengths = {"embed": 0.25, "attn": [0.5 + layer / 10 for layer in range(LAYERS)], "mlp": 1.25}
    return {
        "abliterate": "0.1.0",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "source": {"model": "house/chat", "revision": "abc123", "files": {"model.safetensors": "7b28" * 16}},
        "seed": 3,
        "command": ["abliterate", "house/chat", "--system", "Be brief; it's late", "--out", "edited"],
        "prompts": {side: {"spec": f"{side}.txt", "digest": "d76d" * 16, "used": 80, "report": PROMPTS} for side in ("harmful", "harmless")},
        "direction": {"name": "learned", "method": "projected", "layer": None, "position": -1},
        "selection": {"bypass": -9.3, "induce": 4.9, "kl": 0.0074},
        "search": {
            "original": {"refusals": 30, "prompts": 30}, "chosen": 1, "tokens": {},
            "points": [
                {"pressure": None, "refusals": 2, "prompts": 30, "kl": 0.05, "incoherent": 0, "strengths": {"embed": 1.0}},
                {"pressure": 0.5, "refusals": 1, "prompts": 30, "kl": 0.01, "incoherent": 0, "strengths": strengths},
                {"pressure": 0.1, "refusals": 9, "prompts": 30, "kl": 0.002, "incoherent": 0, "strengths": strengths},
            ],
        },
        "recipe": {"direction": "learned", "strengths": strengths},
        "tensors": tensors,
        "proof": {"kind": "agreement", "largest": 0.0058, "limit": 0.08, "holds": True, "before": None,
                  "per_layer": [0.0, *(0.001 * layer for layer in range(1, LAYERS + 1))]},
        "left_alone": ["vision_tower"],
        "figures": {
            "reply_tokens": 32,
            "original": {"harmful_refusals": rate(24, 25), "harmless_refusals": rate(1, 25)},
            "edited": {"harmful_refusals": rate(2, 25), "harmless_refusals": rate(0, 25)},
            "kl": {"first_token": mean(0.291), "first_token_answered": mean(0.0138), "over_replies": mean(7.5e-5)},
        },
    }  # fmt: skip


def replies(model: str) -> dict[str, Any]:
    sides = {}
    for side in ("harmful", "harmless"):
        refused = [side == "harmful" and (model == "original" or number == 7) for number in range(PROMPTS)]
        sides[side] = [
            {
                "prompt": f"{side} prompt {number}",
                "reply": "I can't do that." if no else f"{model} reply {number}",
                "refused": no,
            }
            for number, no in enumerate(refused)
        ]
    return sides


def observations() -> dict[str, Any]:
    cloud = [[float(number), number**2 / 7] for number in range(PROMPTS)]
    return {
        "format": 1,
        "separation": {
            "positions": [-2, -1], "layers": [*range(LAYERS + 1)],
            "auc": [[None, *(0.5 + layer / 20 for layer in range(LAYERS))]] * 2,
            "d": [[None, *(layer / 2 for layer in range(LAYERS))]] * 2,
        },
        "pca": {
            "position": -1,
            "prompts": {side: [f"{side} prompt {number}" for number in range(PROMPTS)] for side in ("harmful", "harmless")},
            "layers": [
                {"layer": layer, "explained": [0.4, 0.1] if layer else [None, None], "harmful": [[x + layer, y] for x, y in cloud],
                 "harmless": [[-x - layer, y] for x, y in cloud]}
                for layer in range(LAYERS + 1)
            ],
        },
        "candidates": [
            {"layer": layer, "position": position, "bypass": layer - 3.5 + position, "induce": 1.5 if layer == 3 else None,
             "kl": 0.002 if layer == 3 else None}
            for layer in range(1, 5) for position in (-2, -1)
        ],
        "chosen": {"layer": 3, "position": -1},
        "replies": {"original": replies("original"), "edited": replies("edited")},
    }  # fmt: skip


def evaluation() -> dict[str, Any]:
    def labels(refused: int) -> dict[str, Any]:
        return {
            "complied": rate(24 - refused, 25),
            "hedged": rate(1, 25),
            "refused": rate(refused, 25),
            "incoherent": rate(0, 25),
        }

    def labelled(model: str) -> dict[str, Any]:
        return {
            side: [
                {**one, "label": "refused" if one["refused"] else "hedged" if number == 3 else "complied"}
                for number, one in enumerate(ones)
            ]
            for side, ones in replies(model).items()
        }

    paired = {"gained": 0, "lost": 21, "p": 9.5e-7, "test": "McNemar, exact"}
    difference = {"value": 0.011, "low": -0.002, "high": 0.03, "p": 0.12, "test": "paired bootstrap"}
    return {
        "format": 1, "model": "edited", "against": "house/chat", "settings": {"reply_tokens": 128, "judge": "rules", "system": None, "tasks": ["arc_easy"], "served": False, "quick": True,
                     "prompts": {"harmful": {"spec": "harmful.txt", "digest": "d76d", "count": 25}}},
        "notes": ["Look-alikes were not asked of the other model."],
        "sets": {"harmful": {"model": labels(2), "against": labels(23), "paired": paired},
                 "look-alikes": {"model": labels(0), "against": None, "paired": None}},
        "figures": {
            "KL, last prompt token": {"model": mean(0.2), "against": None, "difference": None, "unit": "nats"},
            "top-1 agreement": {"model": mean(0.45), "against": None, "difference": None, "unit": "share"},
            "cross-entropy": {"model": mean(0.412), "against": mean(0.401), "difference": difference, "unit": "nats"},
        },
        "by_length": [{"tokens": tokens, "harmful": {"model": rate(2, 25), "against": rate(23, 25)}} for tokens in (16, 32)],
        "tasks": {"arc_easy": {"acc": {"model": rate(61, 200), "against": rate(63, 200)}}},
        "replies": {"model": labelled("edited"), "against": labelled("original")},
    }  # fmt: skip


def folder_of(path: Path, main: object, observed: object = None, evaluated: object = None) -> Path:
    """Write the records of a checkpoint; None writes none."""
    records = {"abliterate.json": main, "observations.json": observed, "evaluation.json": evaluated}
    for name, record in records.items():
        if record is not None:
            (path / name).write_text(json.dumps(record), encoding="utf-8")
    return path


def changed(record: Any, place: list[Any], value: object) -> Any:
    """Return the record with another value at one place."""
    whole = copy.deepcopy(record)
    held = whole
    for step in place[:-1]:
        held = held[step]
    held[place[-1]] = value
    return whole
