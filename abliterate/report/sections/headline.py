"""The head of the page: what was done in a few words, and the figures that say how it came out."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from abliterate.evaluation.figure_names import behaviour_of, others_refused, prompts_refused
from abliterate.report import format as text
from abliterate.report.load import Gathered
from abliterate.report.sections.proof import proof_line
from abliterate.report.sections.section import MODELS, SIDES
from abliterate.report.sections.strengths import strengths_line


def headline(records: Gathered) -> dict[str, Any]:
    """Return what the page's own template is filled with."""
    manifest = records.manifest
    if not manifest:
        studied = {"facts": study_facts(records), "cards": [], "edited": None}
        return {"model": records.model, "version": version("abliterate"), **studied}
    return {
        "model": records.model,
        "edited": edited_name(manifest),
        "version": manifest["abliterate"],
        "facts": facts(records),
        "cards": cards(manifest),
    }


def edited_name(manifest: Mapping[str, Any]) -> str | None:
    """Return the name of the edited model: that of the folder which its command has written, None where none is known."""
    words = [str(one) for one in manifest.get("command") or ()]
    return words[-1] if "--out" in words[-2:-1] else None


def study_facts(records: Gathered) -> list[tuple[str, str]]:
    """Return what was asked of the model by the studies on the page."""
    (first, *_) = records.studies.values()
    asked = [("studies", ", ".join(records.studies)), ("dtype", first["dtype"]), ("seed", str(first["seed"]))]
    return [*([("revision", first["revision"])] if first["revision"] else []), *asked]


def facts(records: Gathered) -> list[tuple[str, str]]:
    """Return what was done in a few words each, by name."""
    manifest = records.manifest
    source, direction, prompts = manifest["source"], manifest["direction"], manifest["prompts"] or {}
    rows = []
    if source["revision"]:
        rows.append(("revision", source["revision"]))
    found = [direction["name"] or "given", direction["method"] or ""]
    if direction.get("form"):
        found.append(f"matched phrases in the form {direction['form']}, place {direction['place']}")
    elif direction["position"] is not None:
        found.append(f"position {direction['position']}".replace("-", "−"))
    rows += [
        ("direction", ", ".join(filter(None, found))),
        ("strength", strengths_line(records)),
        ("edited", edited(records)),
    ]
    rows += [
        ("along it", ", ".join(one["along"]))
        for one in ((records.observations or {}).get("words") or {"directions": []})["directions"]
    ]
    if manifest.get("edited_dtype"):
        rows.append(("edited tensors written as", manifest["edited_dtype"]))
    for side, one in prompts.items():
        use = [f"{one[name]} {verb}" for name, verb in (("used", "made it"), ("report", "measure it")) if name in one]
        rows.append((f"{side} prompts", ", ".join([one["spec"], *use])))
    if (search := manifest["search"]) and search["original"]["kept_prompts"]:
        point, original = search["points"][search["chosen"]], search["original"]
        line = f"{original['kept']} → {point['kept']} of {original['kept_prompts']} on the select split"
        rows.append(("refusals that should stay", line))
    if (behaviour := behaviour_of(manifest)) is not None:
        rows.append(("refused means", f"replies that show {behaviour}"))
    if (manifest["search"] or {}).get("judge"):
        rows.append(("counted in the search by", manifest["search"]["judge"]))
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
            shown.append(figure_card(prompts_refused(side), text.share_html(after["rate"]), line, before["rate"]))
        for title, (before, after) in others_refused(figures).items():
            line = f"{brief(before)} → {brief(after)}"
            shown.append(figure_card(title, text.share_html(after["rate"]), line, before["rate"]))
        kl = figures["kl"]["first_token"]
        line = f"nats {text.interval(kl['low'], kl['high'])}, last prompt token, {kl['count']} harmless prompts"
        shown.append(figure_card("KL(original ‖ edited)", text.number_html(kl["mean"]), line))
    return [*shown, figure_card("Proof", "Holds" if held["holds"] else "Does not hold", proof_line(held))]


def figure_card(title: str, value: str, line: str, before: text.Number | None = None) -> dict[str, str]:
    """Return one headline figure."""
    return {"title": title, "value": value, "line": line, "before": "" if before is None else text.share_html(before)}


def brief(rate: Mapping[str, Any]) -> str:
    """Return a rate's count and interval."""
    return f"{rate['count']}/{rate['total']} {text.interval(rate['low'], rate['high'], True)}"
