"""The model card: a README.md that says what was done and what was measured, and nothing that the manifest does not hold.

Names and texts that come from a model or its user are shown, never interpreted: as code where that is safe, else
with every other character as a numeric reference, which no Markdown or HTML reads as structure.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml  # type: ignore[import-untyped]
from huggingface_hub import EvalResult, ModelCardData
from huggingface_hub.repocard import REGEX_YAML_BLOCK

from abliterate.evaluation.figure_names import behaviour_of
from abliterate.records.card_figures import figures_text, number_text
from abliterate.records.card_index import index_of
from abliterate.records.card_usage import (
    CALMED_LIMITS,
    INDUCED_LIMITS,
    LIMITS,
    MEASURE_LIMITS,
    RESEARCH,
    usage_text,
)  # fmt: skip

TAGS = ["abliterated", "abliterate", "refusal-direction"]
INDUCED_TAGS = ["refusal-induced", *TAGS[1:]]
CALMED_TAGS = ["over-refusal", *TAGS[1:]]

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
INHERITED = {
    "license": re.compile(r"[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}"),
    "license_name": re.compile(r"[^\x00-\x1f\x7f]{1,200}"),
    "license_link": re.compile(r"https?://[!-~]{1,500}|[\w./-]{1,200}"),
    "language": re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,31}"),
}
"""What is taken over of the source's card, and what a value of it looks like."""

PLAIN = re.compile(r"[\w ./:+=,@~-]+")
"""Texts that stay what they are between backticks, in a table too."""

PROOFS = {
    "silence": (
        "After writing, the model was loaded from the saved files and run: at every layer, the component of the "
        "residual stream along the {direction} is at most {largest} of the stream"
    ),
    "agreement": (
        "After writing, the model was loaded from the saved files and run: at every layer, its residual stream differs "
        "from that of the original with the same edit as hooks by at most {largest} of the stream"
    ),
}
"""What was checked, by the kind of the proof."""

SUMMARY = """\
This is {source}, edited with abliterate {version} along one direction of its residual stream.
Such a direction separates prompts that a chat model refuses from those that it answers
([Arditi et al., arXiv 2406.11717](https://arxiv.org/abs/2406.11717)); the edit takes it out of the weights that write
to the stream, or puts more of it in, as the strengths below say. Nothing was trained."""

SEVERAL = """\
This is {source}, edited with abliterate {version} along {count} directions of its residual stream.
Such directions separate prompts that a chat model refuses from those that it answers
([Arditi et al., arXiv 2406.11717](https://arxiv.org/abs/2406.11717)); the edit takes what lies in their span out of the weights
that write to the stream, or puts more of it in, as the strengths below say. Nothing was trained."""

CALMED = """\
This is {source}, edited with abliterate {version} against over-refusal: harmless prompts that sound harmful shall be answered,
and what is harmful refused as before. What the edit takes out of the weights that write to the residual stream is {directions},
which began as the difference between such prompts that the model refuses and harmless ones that it answers, orthogonal to the
refusal direction of harmful prompts ([Wang et al., arXiv 2410.03415](https://arxiv.org/abs/2410.03415)), and was then turned by
gradient. Nothing was trained."""

TARGETED = """\
This is {source}, edited with abliterate {version} so that it shows less of one behaviour, {target}, along {directions} of its
residual stream: what separates prompts whose replies show it from others, by the method of
[Arditi et al., arXiv 2406.11717](https://arxiv.org/abs/2406.11717) for refusal. Wherever a figure below says refused, it counts
replies that show {target}, by the rules of the package. Nothing was trained."""

INDUCED = """\
This is {source}, edited with abliterate {version} so that it refuses more: a vector is added to its residual stream at one
layer, at every token. The vector is the difference between the mean activations of prompts that the model refuses and of those
that it answers (activation addition, [Arditi et al., arXiv 2406.11717](https://arxiv.org/abs/2406.11717)).
Nothing was trained."""


def model_card(manifest: Mapping[str, Any], source_card: str | None) -> str:
    """Return the README.md of an edited checkpoint; licence and language are those of the source's own card."""
    induced, calmed = "added" in manifest["recipe"], is_calmed(manifest)
    limits = INDUCED_LIMITS if induced else CALMED_LIMITS if calmed else RESEARCH if behaviour_of(manifest) else LIMITS
    model = manifest["source"]["model"]
    base = model if HUB_ID.fullmatch(model) else None
    sections = {
        "Figures": figures_text(manifest["figures"]),
        "How to use it": usage_text(manifest, base),
        "What was done": edit_text(manifest),
        "Proof": proof_text(manifest["proof"], "directions" if manifest["recipe"].get("directions") else "direction"),
        "How to repeat it": repeat_text(manifest),
        "Licence": licence_text(manifest["source"], inherited(source_card)),
        "Limits and responsible use": (MEASURE_LIMITS if manifest["figures"] is not None else "") + limits,
    }
    names = manifest["recipe"].get("directions") or ()
    target = behaviour_of(manifest)
    text = INDUCED if induced else CALMED if calmed else TARGETED if target else SEVERAL if names else SUMMARY
    summary = text.format(
        source=source_text(manifest["source"]),
        version=shown_value(manifest["abliterate"]),
        count=len(names),
        directions=f"{len(names)} directions" if names else "one direction",
        target=shown_value(target),
    )
    along = f"edited along its direction of {shown_value(target)}" if target else "edited along its refusal direction"
    title = "edited against over-refusal" if calmed else along
    body = [f"# {shown_value(manifest['source']['model'])}, {title}", summary]
    body += [f"## {title}\n\n{text}" for title, text in sections.items()]
    adapter = manifest.get("form") == "adapter"
    front = front_matter(model, source_card, adapter, tags_of(induced, calmed, target), index_of(manifest))
    return f"---\n{front}\n---\n\n" + "\n\n".join(body) + "\n"


def tags_of(induced: bool, calmed: bool, target: str | None) -> list[str]:
    """Return the tags of a card."""
    if target:
        return ["abliterate"]
    return INDUCED_TAGS if induced else CALMED_TAGS if calmed else TAGS


def is_calmed(manifest: Mapping[str, Any]) -> bool:
    """Whether the edit is one of `--mode calm`: of a run, or of the run that it was taken from."""
    return any("look-alikes" in (one.get("prompts") or {}) for one in (manifest, manifest.get("run") or {}))


def front_matter(
    model: str,
    source_card: str | None,
    adapter: bool = False,
    tags: Sequence[str] = TAGS,
    results: Sequence[EvalResult] = (),
) -> str:
    """Return the metadata that the Hub reads, as YAML, with `results` as its model-index."""
    fields = inherited(source_card)
    if results:
        fields |= {
            "model_name": f"{model.partition('/')[2] if HUB_ID.fullmatch(model) else 'model'}, edited",
            "eval_results": list(results),
        }
    if HUB_ID.fullmatch(model):
        fields |= {"base_model": model, "base_model_relation": "adapter" if adapter else "finetune"}
    data = ModelCardData(
        library_name="peft" if adapter else "transformers", pipeline_tag="text-generation", tags=list(tags), **fields
    )
    return data.to_yaml()


def inherited(source_card: str | None) -> dict[str, Any]:
    """Return licence and language of a card, as far as they are what such fields hold; nothing of a damaged card."""
    block = REGEX_YAML_BLOCK.search((source_card or "").lstrip("\ufeff"))
    try:
        found = yaml.safe_load(block.group(2)) if block else None
    except (yaml.YAMLError, ValueError, RecursionError):  # a value that looks like a date but is none: ValueError
        return {}
    if not isinstance(found, dict):
        return {}
    kept: dict[str, Any] = {}
    for name, pattern in INHERITED.items():
        value = found.get(name)
        values = value if isinstance(value, list) and name in ("license", "language") else [value]
        if values and len(values) < 300 and all(isinstance(one, str) and pattern.fullmatch(one) for one in values):
            kept[name] = value
    return kept


def licence_text(source: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Return under which licence the result is: that of its source, as far as the source's card names one."""
    licences = known.get("license")
    if licences is None:
        return f"That of {source_text(source)}, whose card names none in its head: read what comes with it."
    names = ", ".join(map(shown_value, [licences] if isinstance(licences, str) else licences))
    named = f" ({shown_value(known['license_name'])})" if "license_name" in known else ""
    return f"That of {source_text(source)}: {names}{named}."


def source_text(source: Mapping[str, Any]) -> str:
    """Return the source's name, as a link where it is on the Hub, with its commit."""
    model, revision = str(source["model"]), source["revision"]
    name = f"[{model}](https://huggingface.co/{model})" if HUB_ID.fullmatch(model) else shown_value(model)
    return f"{name} at commit {shown_value(revision)}" if revision is not None else name


def edit_text(manifest: Mapping[str, Any]) -> str:
    """Return what was edited: direction, how it was chosen, strengths, number of tensors."""
    direction, selection = manifest["direction"], manifest["selection"]
    known = {name: direction.get(name) for name in ("method", "layer", "position", "form", "place")}
    details = ", ".join(f"{name} {shown_value(value)}" for name, value in known.items() if value is not None)
    names = manifest["recipe"].get("directions") or [direction["name"]]
    title = "Directions" if len(names) > 1 else "Direction"
    lines = [f"- {title}: {', '.join(map(shown_value, names))}" + (f" ({details})" if details else "")]
    search = manifest.get("search")
    if search is not None:
        point = search["points"][search["chosen"]]
        asked = "look-alikes of the selection" if is_calmed(manifest) else "selection prompts"
        lines.append(
            f"- Direction and strengths were found by gradient; on the {asked} {point['refusals']} of "
            f"{point['prompts']} replies refuse ({search['original']['refusals']} before{judged_by(search)}), KL {number_text(point['kl'])} nats"
        )
        lines += kept_lines(manifest)
    elif selection is not None:
        units = {"bypass": "bypass {}", "induce": "induce {}", "kl": "KL {} nats"}
        scores = [
            text.format(number_text(selection[name])) for name, text in units.items() if selection[name] is not None
        ]
        lines.append(f"- Its scores on the selection prompts: {', '.join(scores)}")
    recipe = manifest["recipe"]
    if "added" in recipe:
        return "\n".join([*lines, *added_lines(manifest)])
    lines += strength_lines(recipe)
    if recipe.get("form") == "columns":
        lines.append("- What each input writes keeps its length: the columns of each matrix are as long as they were")
    if manifest.get("form") == "adapter":
        lines.append(
            "- As a PEFT adapter with exact factors; merged into the source it is the edited checkpoint, to rounding"
        )
    else:
        lines.append(f"- Edited tensors: {len(manifest['tensors'])}; `abliterate.json` lists them")
    return "\n".join([*lines, "", "Strength 1 removes the component along the direction, 0 leaves it, -1 doubles it."])


def judged_by(search: Mapping[str, Any]) -> str:
    """Return who counted, where it was not the rules of the package."""
    return f"; counted by {shown_value(search['judge'])}" if search.get("judge") else ""


def kept_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what refusals the search has kept, where some should stay."""
    search = manifest["search"]
    point, original = search["points"][search["chosen"]], search["original"]
    if not point.get("kept_prompts"):
        return
    named = (("those of harmful prompts", is_calmed(manifest)), ("those of `--keep`", is_keeping(manifest)))
    kept = " and ".join(words for words, held in named if held)
    yield (
        f"- Kept: refusals that should stay, {kept}; on the selection prompts {point['kept']} of {point['kept_prompts']} "
        f"({original['kept']} before)"
    )


def is_keeping(manifest: Mapping[str, Any]) -> bool:
    """Whether the run kept refusals of a list that was given."""
    return any("keep" in (one.get("prompts") or {}) for one in (manifest, manifest.get("run") or {}))


def strength_lines(recipe: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each site: of all directions, or of each that has its own strengths."""
    strengths = recipe["strengths"]
    if isinstance(strengths, Mapping):
        yield from (f"- Strength at {shown_value(site)}: {strength_text(value)}" for site, value in strengths.items())
        return
    for name, own in zip(recipe["directions"], strengths, strict=True):
        for site, value in own.items():
            yield f"- Strength of {shown_value(name)} at {shown_value(site)}: {strength_text(value)}"


def added_lines(manifest: Mapping[str, Any]) -> Iterator[str]:
    """Yield what was added, and what holds it."""
    recipe = manifest["recipe"]
    if trials := manifest.get("trials"):
        best = trials[0]
        yield (
            f"- Strength {number_text(best['strength'])}: {best['refused']} of {best['prompts']} replies to the selection prompts, "
            f"harmful and harmless, refuse and make sense ({len(trials)} trials)"
        )
    yield f"- Added: a vector of length {number_text(recipe['added'])} along it, to {shown_value(recipe['direction'])} at every token"
    if manifest.get("form") == "adapter":
        yield "- As a PEFT adapter: a LoRA of rank 1 whose factors are zero, and whose bias is the vector (`lora_bias`)"
        yield "- The layer has no bias of its own, so PEFT runs the adapter beside the model and cannot merge it"
    else:
        yield f"- In the weights: {', '.join(shown_value(one['name']) for one in manifest['tensors'])}"


def strength_text(value: int | float | Sequence[int | float]) -> str:
    """Return one strength, or the range of one a layer."""
    if isinstance(value, int | float):
        return f"{value:.6g}"
    return f"{min(value):.6g} to {max(value):.6g} over the layers" if value else "none"


def proof_text(proof: Mapping[str, Any] | None, direction: str = "direction") -> str:
    """Return what was proved in a sentence, or that nothing was."""
    sentence = PROOFS.get(proof["kind"]) if proof is not None else None
    if proof is None or sentence is None:
        return "This checkpoint was not proved."
    if not proof.get("holds", True):
        return (
            f"**Not proved.** The architecture's writers are not all accounted for: up to {number_text(proof['largest'])} of the "
            f"residual stream lies along the {direction} after the edit ({number_text(proof['limit'])} would be rounding)."
        )
    limit = f" (rounding allows {number_text(proof['limit'])})"
    before = f"; before the edit it was up to {number_text(proof['before'])}" if proof["before"] is not None else ""
    return sentence.format(largest=number_text(proof["largest"]), direction=direction) + limit + before + "."


def repeat_text(manifest: Mapping[str, Any]) -> str:
    """Return the command, the versions, and by what the source and the prompts are known."""
    command = "".join(one if one.isprintable() else "\ufffd" for one in shlex.join(manifest["command"]))
    fence = fence_for(command, 3)
    versions = {"abliterate": manifest["abliterate"], **manifest["versions"], "seed": manifest["seed"]}
    source = manifest["source"]
    revision = "no commit is known" if source["revision"] is None else f"commit {shown_value(source['revision'])}"
    lines = [
        f"{fence}sh\n{command}\n{fence}",
        "",
        f"- Versions: {', '.join(shown_value(f'{name} {value}') for name, value in versions.items())}",
        f"- Source: {shown_value(source['model'])}, {revision}; `abliterate.json` holds the sha256 of its weights",
        *prompt_lines(manifest["prompts"]),
        "- `directions.safetensors` and `recipe.json` in this folder are what `abliterate "
        f"{'export' if manifest.get('form') == 'adapter' else 'apply'}` needs to make the same edit again without measuring.",
    ]
    return "\n".join(lines)


def prompt_lines(prompts: Mapping[str, Any] | None) -> Iterator[str]:
    """Yield for each side which prompts were used, by digest, and how many for what."""
    for side, record in (prompts or {}).items():
        parts = ", ".join(f"{number_text(record[part])} to {part}" for part in ("train", "select", "report"))
        yield f"- Prompts, {shown_value(side)}: {shown_value(record['spec'])}, sha256 {shown_value(record['digest'])}; {parts}"


def shown_value(value: object) -> str:
    """Return a foreign text so that it shows as it is, in running text and in tables, whatever it holds."""
    if isinstance(value, int):
        return str(value)
    text = "".join(one if one.isprintable() else "\ufffd" for one in str(value))
    if PLAIN.fullmatch(text) and text.strip(" ") == text:
        return f"`{text}`"
    return "".join(one if one.isalnum() or one == " " else f"&#{ord(one)};" for one in text)


def fence_for(text: str, least: int) -> str:
    """Return more backticks than `text` has in a row."""
    return "`" * max(least, 1 + max((len(run) for run in re.findall("`+", text)), default=0))
