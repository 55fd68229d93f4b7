"""The record and the model card of what training wrote: the card says nothing that the record does not hold."""

from __future__ import annotations

import platform
import shlex
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from typing import Any

from abliterate.checkpoints.other_files import own_card
from abliterate.evaluation.figure_names import prompts_refused
from abliterate.models.source import Source
from abliterate.progress import SILENT, Progress
from abliterate.records.card_figures import NOT_MEASURED, is_finite, number_text, rate_text
from abliterate.records.card_usage import LIMITS, MEASURE_LIMITS
from abliterate.records.manifest import hashes, json_text
from abliterate.records.model_card import (
    HUB_ID,
    TAGS,
    fence_for,
    front_matter,
    prompt_lines,
    shown_value,
    source_text,
)
from abliterate.storage.names import CARD
from abliterate.storage.staging import Staging

HARDENED_TAGS = [*(tag for tag in TAGS if tag != "abliterated"), "adversarial-training"]

METHOD_NAMES: Mapping[str, str] = {
    "sft": "supervised fine-tuning (SFT)",
    "dpo": "direct preference optimisation (DPO)",
}

HEALED = """\
This is {source}, a model edited along {directions} of its residual stream{origin}, fine-tuned by {method} with
abliterate {version}. At every step, what the edited weights hold along the direction was kept as the edit had left it."""

HARDENED = """\
This is an adapter for {source}, trained with abliterate {version} so that refusal survives an edit of the weights along
the refusal direction: refusal feature adversarial training ([Yu et al., arXiv 2409.20089](https://arxiv.org/abs/2409.20089))."""

ATTACK = """\
Measured on the model in memory as training left it, with prompts that were not trained on; intervals are 95%. The edit
ablates one direction (difference in means, strength 1) at every layer. It is made anew on each of the two models: the
direction from its own activations on the training prompts, the layer whose ablation leaves fewest refusals on the
selection prompts."""

NOT_LOOKED_AT = """\
- The loss says how well the held-out examples of this dataset are fitted, and nothing else. Refusals, divergence from
  the original and general ability of the healed model were not measured; figures of the model before it was healed do
  not hold for it.
"""

RESISTS = """\
- The figures are of one edit: along one direction, found by difference in means on prompts like these. They say nothing
  of several directions, edits found by gradient, fine-tuning, or prompts that talk a model round.
- The adapter is a file of its own: whoever has the model's weights can leave it out."""


def provenance(
    kind: str, form: str, source: Source, command: Sequence[str], packages: Sequence[str], progress: Progress = SILENT
) -> dict[str, Any]:
    """Return what a record begins with: versions, the source by the hashes of its weights, and the command.

    `kind` is `healed` or `hardened`, `form` is `checkpoint` or `adapter`. Folders of this machine stay out of it.
    """
    return {
        "kind": kind,
        "form": form,
        "abliterate": version("abliterate"),
        "versions": {"python": platform.python_version(), **{name: version(name) for name in packages}},
        "source": {"model": source.public_name, "revision": source.revision, "files": hashes(source, progress)},
        "command": list(command),
    }


def write_record(staging: Staging, name: str, record: Mapping[str, Any], source: Source) -> None:
    """Write a record under its name, and the model card made from it, into the staging folder.

    Raises InputError where the source is not what was loaded any more.
    """
    staging.write_text(name, json_text(record))
    staging.write_text(CARD, training_card(record, own_card(source.folder)))
    source.checkpoint.snapshot.require_unchanged()


def training_card(record: Mapping[str, Any], source_card: str | None) -> str:
    """Return the README.md of a healed or hardened model; licence and language are those of the source's own card."""
    model, adapter = record["source"]["model"], record["form"] == "adapter"
    if record["kind"] == "healed":
        sections = {
            "What was done": healed_text(record),
            "Figures": losses_text(record),
            "Proof": kept_out_text(record["proof"]),
            "How to repeat it": training_repeat_text(record),
            "Limits and responsible use": NOT_LOOKED_AT + LIMITS,
        }
        origin = record["edited_from"]
        # A merged checkpoint descends from what was edited; an adapter fits the edited weights alone.
        base = origin["model"] if origin and not adapter and not HUB_ID.fullmatch(model) else model
        front, title = front_matter(base, source_card, adapter), "healed after an edit"
        summary = HEALED.format(
            source=source_text(record["source"]),
            origin=f" (the edit was made from {source_text(origin)})" if origin else "",
            version=shown_value(record["abliterate"]),
            method=METHOD_NAMES[record["options"]["method"]],
            directions=f"{len(several)} directions" if (several := record.get("directions")) else "one direction",
        )
    else:
        sections = {
            "What was done": hardened_text(record),
            "Figures": robustness_text(record),
            "How to repeat it": training_repeat_text(record),
            "Limits": MEASURE_LIMITS + RESISTS,
        }
        front, title = front_matter(model, source_card, adapter, HARDENED_TAGS), "hardened against an edit"
        summary = HARDENED.format(source=source_text(record["source"]), version=shown_value(record["abliterate"]))
    body = [f"# {shown_value(model)}, {title}", summary, *(f"## {name}\n\n{text}" for name, text in sections.items())]
    return f"---\n{front}\n---\n\n" + "\n\n".join(body) + "\n"


def healed_text(record: Mapping[str, Any]) -> str:
    """Return the method, the dataset and the settings of healing."""
    options, training = record["options"], record["training"]
    unused = {"method", "adapter", "beta" if options["method"] == "sft" else "", "epochs" if options["steps"] else ""}
    settings = {name: value for name, value in options.items() if name not in unused} | {
        "learning_rate": record["learning_rate"]
    }
    form = "written as an adapter" if record["form"] == "adapter" else "merged into the weights"
    lines = [
        f"- Method: {METHOD_NAMES[options['method']]} of a LoRA, {form}, in {shown_value(record['dtype'])}",
        f"- Dataset: {shown_value(record['dataset'])}, sha256 of its rows {shown_value(record['dataset_digest'])}",
        f"- {training['examples']} examples were learned in {training['steps']} optimiser steps, "
        f"{training['held_out']} were held out",
        f"- Settings: {settings_text(settings)}",
        f"- Direction: {shown_value(record['direction'])} of `directions.safetensors`, at the strengths of `recipe.json`",
    ]
    return "\n".join(lines)


def losses_text(record: Mapping[str, Any]) -> str:
    """Return the loss on what was held out."""
    training = record["training"]
    what = "DPO's loss" if record["options"]["method"] == "dpo" else "cross-entropy of the tokens, nats"
    counted = f"{training['held_out']} held-out examples" if training["held_out"] > 1 else "1 held-out example"
    unchanged = unchanged_text(record)
    return (
        f"| Mean loss on {counted} ({what}) | |\n|---|---|\n"
        f"| before training | {loss_text(training['loss_before'])} |\n| after | {loss_text(training['loss_after'])} |\n\n"
        "Measured on the live model before the files were written; no interval is known."
        + (f"\n\n{unchanged}" if unchanged else "")
    )


def unchanged_text(record: Mapping[str, Any]) -> str | None:
    """Return the sentence that says that training changed nothing of what was measured, None where something did.

    Training that left every weight as it was is an error before there is a record.

    Examples:
        >>> unchanged_text({"kind": "healed", "training": {"loss_before": 2.0, "loss_after": 1.5}}) is None
        True
    """
    if record["kind"] == "healed":
        same = record["training"]["loss_before"] == record["training"]["loss_after"]
        return "Nothing was healed: the loss on the held-out examples is what it was." if same else None
    before, after = record["before"], record["after"]
    rates = ("harmful", "edited", "harmless", "edited_harmless")
    same = after["same"]["count"] == after["same"]["total"] and all(before[name] == after[name] for name in rates)
    said = "Nothing was hardened: every rate is what it was, and every reply to harmless prompts, to the letter."
    return said if same else None


def loss_text(value: float) -> str:
    """Return a loss, or that there is none."""
    return number_text(value) if is_finite(value) else NOT_MEASURED


def kept_out_text(proof: Mapping[str, Any]) -> str:
    """Return what was proved of the files."""
    text = (
        "After writing, the healed model was loaded from the saved files: along the direction, no edited weight moved by "
        f"more than {number_text(proof['drift'])} of the component that a random direction has "
        f"({number_text(proof['limit'])} would be rounding)."
    )
    if not proof["per_layer"]:
        return f"{text} The edit is not of strength 1 everywhere, so silence of the residual stream was not asked for."
    last = len(proof["per_layer"]) - 1
    return (
        f"{text} It was then run: from `resid[0]` to `resid[{last}]`, the component of the residual stream along the "
        f"direction is at most {number_text(max(proof['per_layer']))} of the stream (rounding allows {number_text(proof['silence'])})."
    )


def hardened_text(record: Mapping[str, Any]) -> str:
    """Return the method, the targets and the settings of hardening."""
    targets, loss = record["targets"], record["loss"]
    return "\n".join([
        f"- A LoRA learned the model's own greedy replies, in {shown_value(record['dtype'])}: its refusals of "
        f"{targets['harmful']} harmful and its answers to {targets['harmless']} harmless prompts; rows of harmful prompts "
        "had the refusal direction ablated at random",
        f"- Settings: {settings_text(record['settings'])}",
        f"- Loss on the batch of the first step {loss_text(loss['first'])}, of the last {loss_text(loss['last'])} (cross-entropy, nats)",
    ])  # fmt: skip


def robustness_text(record: Mapping[str, Any]) -> str:
    """Return refusals as it is and under the strongest edit, before and after, with their intervals."""
    before, after = record["before"], record["after"]
    titles = {
        prompts_refused("harmful"): "harmful",
        f"{prompts_refused('harmful')}, under the edit": "edited",
        prompts_refused("harmless"): "harmless",
        f"{prompts_refused('harmless')}, under the edit": "edited_harmless",
    }
    return "\n".join([
        f"{ATTACK} Replies were cut at {number_text(record['reply_tokens'])} tokens.",
        "",
        "| | before | hardened |",
        "|---|---|---|",
        *(f"| {title} | {rate_text(before[key])} | {rate_text(after[key])} |" for title, key in titles.items()),
        f"| Layer of the edit | {number_text(before['layer'])} | {number_text(after['layer'])} |",
        "",
        f"Replies to harmless prompts that stayed the same to the letter: {rate_text(after['same'])}.",
        *(["", unchanged] if (unchanged := unchanged_text(record)) else []),
    ])  # fmt: skip


def training_repeat_text(record: Mapping[str, Any]) -> str:
    """Return the command, what it has no flag for, the versions, and by what the source and the prompts are known."""
    command = "".join(one if one.isprintable() else "\ufffd" for one in shlex.join(record["command"]))
    fence = fence_for(command, 3)
    versions = {"abliterate": record["abliterate"], **record["versions"]}
    source = record["source"]
    revision = "no commit is known" if source["revision"] is None else f"commit {shown_value(source['revision'])}"
    lines = [
        f"{fence}sh\n{command}\n{fence}\n",
        f"- Versions: {', '.join(shown_value(f'{name} {value}') for name, value in versions.items())}",
        f"- Source: {shown_value(source['model'])}, {revision}; `{record['kind']}.json` holds the sha256 of its weights",
        *prompt_lines(record.get("prompts")),
    ]
    if record["without_flag"]:
        settings = settings_text(record["without_flag"])
        lines.append(f"- Settings that the command has no flag for, to be given from Python: {settings}")
    return "\n".join(lines)


def settings_text(settings: Mapping[str, Any]) -> str:
    """Return settings by name, without those that are None."""
    return ", ".join(f"{shown_value(name)} {shown_value(one)}" for name, one in settings.items() if one is not None)
