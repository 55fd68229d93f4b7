"""What the page shows, section by section: words and tables for the template, numbers for the plots."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from abliterate.evaluation.statistics import Rate
from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.unlike import unlike
from abliterate.search.front import SLACK

SIDES = ("harmful", "harmless")
MODELS = ("original", "edited")
PROMPT_KINDS = {
    "first_token": "KL, last prompt token",
    "first_token_answered": "KL, last prompt token, where answered",
    "over_replies": "KL, over the original's replies",
}


def plain_words(records: Gathered) -> dict[str, Any]:
    """Return what the template fills in; a section without data is None."""
    manifest, evaluation = records.manifest, records.evaluation
    return {
        "model": manifest["source"]["model"],
        "version": manifest["abliterate"],
        "facts": facts(records),
        "cards": cards(manifest),
        "measures": measures(manifest),
        "reply_tokens": manifest["figures"]["reply_tokens"] if manifest["figures"] else None,
        "evaluation": evaluation_section(evaluation) if evaluation else None,
        "unlike": unlike(manifest, evaluation["settings"]) if evaluation else [],
        "observed": observed(records.observations) if records.observations else None,
        "adapter": manifest.get("form") == "adapter",
        "added": manifest["recipe"].get("added") is not None,
        "trials": trials(manifest),
        "strengths": strengths_line(records),
        "front": front(manifest),
        "explorers": [{key: one[key] for key in ("id", "title", "columns")} for one in explorers(records)],
        "proof": {**manifest["proof"], "line": proof_section(manifest["proof"]), "tensors": len(manifest["tensors"])},
        "left_alone": manifest["left_alone"],
        "command": shlex.join(manifest["command"]),
        "source": manifest["source"],
        "versions": manifest["versions"],
        "prompts": manifest["prompts"],
        "seed": manifest["seed"],
    }


def number_rows(records: Gathered) -> dict[str, Any]:
    """Return what the page's script draws and lists."""
    manifest, observed, evaluation = records.manifest, records.observations, records.evaluation
    return {
        "model": manifest["source"]["model"],
        "figures": manifest["figures"],
        "kinds": PROMPT_KINDS,
        "strengths": by_layer(records),
        "front": front(manifest),
        "proof": manifest["proof"],
        "tensors": manifest["tensors"],
        "separation": observed and observed["separation"],
        "pca": observed and observed["pca"],
        "candidates": observed and observed["candidates"],
        "score": observed and next(iter(scored(observed)), None),
        "chosen": observed and observed["chosen"],
        "explorers": explorers(records),
        "evaluation": evaluation and {key: evaluation[key] for key in ("model", "against", "sets")},
        "by_length": (evaluation or {}).get("by_length"),
    }


def observed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return which of the run's observations there are, and the scores that some candidate has."""
    titles = {"bypass": "Bypass", "induce": "Induce", "kl": "KL"}
    return {
        "separation": bool(record["separation"]["layers"]),
        "activations": bool(record["pca"]["layers"]),
        "scores": [(name, titles[name]) for name in scored(record)],
    }


def scored(record: Mapping[str, Any]) -> list[str]:
    """Return the scores that some candidate has."""
    return [name for name in ("bypass", "induce", "kl") if any(one[name] is not None for one in record["candidates"])]


def facts(records: Gathered) -> list[tuple[str, str]]:
    """Return what was done in a few words each, by name."""
    manifest = records.manifest
    source, direction, prompts = manifest["source"], manifest["direction"], manifest["prompts"] or {}
    rows = []
    if source["revision"]:
        rows.append(("revision", source["revision"]))
    found = [direction["name"] or "given", direction["method"] or ""]
    if direction["position"] is not None:
        found.append(f"position {direction['position']}".replace("-", "−"))
    rows += [
        ("direction", ", ".join(filter(None, found))),
        ("strength", strengths_line(records)),
        ("edited", edited(records)),
    ]
    if manifest.get("edited_dtype"):
        rows.append(("edited tensors written as", manifest["edited_dtype"]))
    for side, one in prompts.items():
        use = [f"{one[name]} {verb}" for name, verb in (("used", "made it"), ("report", "measure it")) if name in one]
        rows.append((f"{side} prompts", ", ".join([one["spec"], *use])))
    return [*rows, ("seed", str(manifest["seed"]))]


def edited(records: Gathered) -> str:
    """Return what the edit is made of."""
    if records.manifest.get("form") == "adapter":
        added = records.manifest["recipe"].get("added") is not None
        return "by an adapter on one layer" if added else f"by an adapter on {records.depth} layers"
    return f"{len(records.manifest['tensors'])} tensors in {records.depth} layers"


def cards(manifest: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the headline figures: a value before where there is one, the value, and a line about it."""
    held, shown = manifest["proof"], []
    if figures := manifest["figures"]:
        for side in SIDES:
            before, after = (figures[model][f"{side}_refusals"] for model in MODELS)
            line = f"{brief(before)} → {brief(after)}"
            shown.append(
                figure_card(
                    f"{side.capitalize()} prompts refused", text.share_html(after["rate"]), line, before["rate"]
                )
            )
        kl = figures["kl"]["first_token"]
        line = f"nats {text.interval(kl['low'], kl['high'])}, last prompt token, {kl['count']} harmless prompts"
        shown.append(figure_card("KL(original ‖ edited)", text.number_html(kl["mean"]), line))
    return [*shown, figure_card("Proof", "Holds" if held["holds"] else "Does not hold", proof_section(held))]


def figure_card(title: str, value: str, line: str, before: text.Number | None = None) -> dict[str, str]:
    """Return one headline figure."""
    return {"title": title, "value": value, "line": line, "before": "" if before is None else text.share_html(before)}


def brief(rate: Mapping[str, Any]) -> str:
    """Return a rate's count and interval."""
    return f"{rate['count']}/{rate['total']} {text.interval(rate['low'], rate['high'], True)}"


def proof_section(proof: Mapping[str, Any]) -> str:
    """Return what the proof found on the residual stream, in one sentence."""
    found, allowed = text.number_html(proof["largest"]), text.number_html(proof["limit"])
    if proof["kind"] == "silence":
        before = f", {text.number_html(proof['before'])} before" if proof["before"] is not None else ""
        return f"along the direction at most {found} of the residual stream at any layer{before}; {allowed} allowed"
    return f"at most {found} of the residual stream away from the hook form at any layer; {allowed} allowed"


def measures(manifest: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the run's own figures as rows: name, original, edited."""
    figures = manifest["figures"]
    if not figures:
        return []
    rows = [
        (f"Refusals, {side} prompts", *(text.rate_html(figures[model][f"{side}_refusals"]) for model in MODELS))
        for side in SIDES
    ]
    return [
        *rows,
        *((title, "", f"{text.mean_html(figures['kl'][kind])} nats") for kind, title in PROMPT_KINDS.items()),
    ]


def by_layer(records: Gathered) -> dict[str, list[float] | float]:
    """Return the strength of each site: one number for the embedding, one a layer for the others."""
    spread: dict[str, list[float] | float] = {}
    for site, value in records.manifest["recipe"]["strengths"].items():
        if site == "embed":
            spread[site] = float(value[0] if isinstance(value, list) else value)
        else:
            spread[site] = [*map(float, value)] if isinstance(value, list) else [float(value)] * records.depth
    return spread


def strengths_line(records: Gathered) -> str:
    """Return the strengths of all sites in a few words."""
    recipe = records.manifest["recipe"]
    if recipe.get("added") is not None:
        return f"a vector of length {text.number_html(recipe['added'])} added to {recipe['direction']}, at every token"
    spread = by_layer(records)
    every = [one for value in spread.values() for one in (value if isinstance(value, list) else [value])]
    if not every:
        return "none"
    where = ", ".join(spread)
    if min(every) == max(every):
        return f"{every[0]:g} at every layer of {where}"
    return f"{min(every):.2f} to {max(every):.2f}, by layer, at {where}"


def trials(manifest: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """Return the strengths at which an addition was tried, as rows."""
    return [
        (
            str(one["layer"]),
            str(one["position"]).replace("-", "−"),
            text.number_html(one["strength"]),
            text.rate_html(Rate(one["refused"], one["prompts"]).to_json()),
        )
        for one in manifest.get("trials") or []
    ]


def front(manifest: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the points of a search with the intervals of their refusals, and which of them no other beats."""
    search = manifest["search"]
    if not search:
        return None
    # A reply that goes round in circles is no refusal: such edits are shown, and do not make the front.
    allowed = max(search["points"][search["chosen"]]["incoherent"], SLACK * search["original"]["prompts"])
    good = [(one["refusals"], one["kl"]) for one in search["points"] if one["incoherent"] <= allowed]
    points = []
    for place, one in enumerate(search["points"]):
        own = (one["refusals"], one["kl"])
        beaten = any(other != own and other[0] <= own[0] and other[1] <= own[1] for other in good)
        rate = Rate(one["refusals"], one["prompts"]).to_json()
        points.append({
            "kl": one["kl"], "rate": rate, "incoherent": one["incoherent"], "pressure": one["pressure"],
            "chosen": place == search["chosen"], "best": own in good and not beaten,
            "words": [text.number_html(one["kl"]), text.rate_html(rate), text.number_html(one["pressure"])],
        })  # fmt: skip
    original = Rate(search["original"]["refusals"], search["original"]["prompts"]).to_json()
    return {"points": points, "original": original, "words": text.rate_html(original)}


def evaluation_section(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of an evaluation."""
    columns = ["model"] if evaluation["against"] is None else ["against", "model"]
    labels = [
        (name, label, *(text.estimate_html((one.get(column) or {}).get(label)) for column in columns))
        for name, one in evaluation["sets"].items()
        for label in ("refused", "complied", "hedged", "incoherent")
    ]
    return {
        "columns": [(column, evaluation[column]) for column in columns],
        "settings": settings_section(evaluation["settings"]),
        "notes": evaluation.get("notes") or [],
        "labels": labels,
        "paired": [(name, paired_line(one["paired"])) for name, one in evaluation["sets"].items() if one.get("paired")],
        "figures": [figure_cells(name, one, columns) for name, one in evaluation["figures"].items()],
        "lengths": evaluation.get("by_length"),
        "tasks": [
            (task, metric, *(text.estimate_html(one.get(column)) for column in columns))
            for task, metrics in (evaluation.get("tasks") or {}).items()
            for metric, one in metrics.items()
        ],
    }


def settings_section(given: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return how an evaluation was made, by name; what was not asked for is left out."""
    rows = []
    for name, value in given.items():
        if value in (None, False) or value == []:
            continue
        if name == "prompts" and isinstance(value, dict):
            rows += [
                (f"{kind} prompts", f"{one['spec']}, {one['count']}")
                for kind, one in value.items()
                if isinstance(one, dict) and {"spec", "count"} <= one.keys()
            ]
            continue
        if name == "conditions" and isinstance(value, dict):
            rows += [(f"{kind.replace('_', ' ')} from", str(origin)) for kind, origin in value.items()]
            continue
        if name == "chat_template" and isinstance(value, dict):
            value = value.get("file")
        shown = ", ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else str(value)
        rows.append((name.replace("_", " "), shown))
    return rows


def paired_line(paired: Mapping[str, Any]) -> str:
    """Return a paired comparison in words."""
    return f"refusals: {paired['gained']} gained, {paired['lost']} lost; p{text.TIED}={text.TIED}{text.number_html(paired['p'])} ({paired['test']})"


def figure_cells(name: str, one: Mapping[str, Any], columns: Sequence[str]) -> tuple[str, ...]:
    """Return a figure with its unit: name, each model's value, the difference."""
    unit = one.get("unit") or ""
    percent = unit == "share"

    def shown(value: Mapping[str, Any] | None) -> str:
        if value is not None and percent and "mean" in value:
            return f"{text.share_html(value['mean'])} {text.interval(value['low'], value['high'], True)}"
        return text.estimate_html(value)

    change, words_of_change = one.get("difference"), text.MISSING
    if change:
        value = text.share_html(change["value"]) if percent else text.number_html(change["value"])
        words_of_change = f"{value} {text.interval(change['low'], change['high'], percent)}"
        if change["p"] is not None:
            words_of_change += f"; p{text.TIED}={text.TIED}{text.number_html(change['p'])}"
        if change.get("test"):
            words_of_change += f" ({change['test']})"
    title = name if percent or not unit else f"{name} ({unit})"
    return title, *(shown(one.get(column)) for column in columns), words_of_change


def explorers(records: Gathered) -> list[dict[str, Any]]:
    """Return the lists of replies side by side: the run's own, and the evaluation's."""
    shown = []
    if records.observations:
        replies = records.observations["replies"]
        shown.append(
            {"id": "run", "title": "In the run", "columns": list(MODELS), "pairs": pairs([replies[m] for m in MODELS])}
        )
    if records.evaluation:
        replies = records.evaluation["replies"]
        columns = ["against", "model"] if replies.get("against") else ["model"]
        names = [records.evaluation[column] or column for column in columns]
        listed = pairs([replies[column] for column in columns])
        shown.append({"id": "evaluation", "title": "In the evaluation", "columns": names, "pairs": listed})
    return shown


def pairs(models: Sequence[Mapping[str, Sequence[Mapping[str, Any]]]]) -> list[dict[str, Any]]:
    """Return each prompt with its side and the reply of each model."""
    return [
        {
            "side": side,
            "prompt": replies[0]["prompt"],
            "replies": [
                {"text": one["reply"], "refused": one["refused"], "label": one.get("label")} for one in replies
            ],
        }
        for side in models[0]
        for replies in zip(*(model.get(side, []) for model in models), strict=True)
    ]
