"""In what an evaluation was made otherwise than the run whose figures stand on the same page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from abliterate.errors import InputError
from abliterate.evaluation.judges.judge import RuleJudge
from abliterate.pipeline.command import told

NOT_SAID = "does not say"


def unlike(manifest: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    """Return each difference in words: what, in the run, in the evaluation. A run without figures has none."""
    if not manifest["figures"]:
        return []
    try:
        command = told(manifest["command"])
    except InputError:
        return ["the run's command cannot be read by this version: nothing says whether both were made alike"]
    template = manifest.get("chat_template") or {}
    run = {
        "system prompt": command.get("system"),
        "thinking": command.get("thinking", "auto"),
        "generation": command.get("generation", "greedy"),
        "date in the template": command.get("date"),
        "chat template": template.get("digest") or command.get("chat_template"),
        "dtype": command.get("dtype", "auto"),
        "reply tokens": manifest["figures"]["reply_tokens"],
        "judge": RuleJudge().name,
        "prompts": "those of the report split",
        "replies": "by the files",
    }
    own = {
        "system prompt": settings.get("system"),
        "thinking": settings.get("thinking", NOT_SAID),
        "generation": settings.get("generation", "greedy"),  # which is all that earlier versions did
        "date in the template": settings.get("date"),
        "chat template": template_of(settings),
        "dtype": settings.get("dtype", NOT_SAID),
        "reply tokens": settings.get("reply_tokens", NOT_SAID),
        "judge": settings.get("judge", NOT_SAID),
        "prompts": "those of the report split" if settings.get("split") == "report" else "all of each list",
        "replies": "by a server" if settings.get("served") else "by the files",
    }
    found = [worded(name, run[name], own[name]) for name in run if run[name] != own[name]]
    return [*found, *lists(manifest["prompts"] or {}, settings.get("prompts"))]


def template_of(settings: Mapping[str, Any]) -> object:
    """Return what tells the chat template of an evaluation from another, None for the model's own."""
    if "chat_template" not in settings:
        return NOT_SAID
    template = settings["chat_template"]
    return template.get("digest") if isinstance(template, dict) else template


def worded(name: str, run: object, own: object) -> str:
    """Return one difference in words."""
    if name == "chat template":
        run, own = (
            "the model's own" if one is None else one if one == NOT_SAID else f"a file ({str(one)[:12]})"
            for one in (run, own)
        )
    if name == "date in the template":
        run, own = ("none" if one is None else one for one in (run, own))
    if name == "system prompt":
        run, own = ("none" if one is None else f"\u201c{one}\u201d" for one in (run, own))
    return f"{name}: {run} in the run, {own} in the evaluation"


def lists(run: Mapping[str, Any], own: object) -> Iterator[str]:
    """Yield the differences in what was asked: another list, or another number of its prompts."""
    if not isinstance(own, dict):
        yield f"prompts: the evaluation {NOT_SAID} which"
        return
    for side, record in run.items():
        other = own.get(side)
        if not isinstance(other, dict):
            yield f"{side} prompts: {record['spec']} in the run, none in the evaluation"
            continue
        # An evaluation of an earlier version names the list, and holds no hash of all of it.
        same = (
            "digest" in record and record["digest"] == other["list"]
            if "list" in other
            else (record["spec"] == other.get("spec"))
        )
        if not same:
            yield f"{side} prompts: {record['spec']} in the run, {other.get('spec')} in the evaluation, with other prompts"
        elif record.get("report") is not None and record["report"] != other.get("count"):
            yield f"number of {side} prompts: {record['report']} in the run, {other.get('count')} in the evaluation"
