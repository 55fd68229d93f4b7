"""The flags of the command: what each is called, what its help says, and how what was typed becomes Options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from abliterate.cli.completion import listed, words
from abliterate.errors import InputError

if TYPE_CHECKING:
    from abliterate.pipeline.options import Options

Model = Annotated[str, typer.Argument(help="Hub id, local folder or .gguf file.", show_default=False)]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder for the result. \\[default: NAME-abliterated, -induced or -hardened]", show_default=False
    ),
]
Mode = Annotated[
    str,
    typer.Option(
        autocompletion=words("mode"),
        help="ablate removes the direction; induce adds it, for a model that refuses more (in a bias where the model has "
        "one for it, else as an adapter); harden trains an adapter under which refusal survives the edit.",
    ),
]
Layer = Annotated[
    str,
    typer.Option(
        autocompletion=words("layer"), help="auto, or the number of the layer whose resid gives the direction."
    ),
]
Direction = Annotated[
    str,
    typer.Option(
        autocompletion=words("direction"), help="projected (harmless mean removed) or mean-difference (the plain one)."
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        help="1 removes the component, 0 leaves it, -1 doubles it; with --mode induce, how many times the difference "
        "in means is added. \\[default: 1; found, with --mode induce]",
        show_default=False,
    ),
]
Sites = Annotated[
    str, typer.Option(autocompletion=listed("sites"), help="Which writers to edit, by commas: embed,attn,mlp.")
]
Harmful = Annotated[
    str,
    typer.Option(
        autocompletion=words("prompts"),
        help="Prompts that the model declines: org/dataset[:split[:column]] or FILE[:column].",
    ),
]
Harmless = Annotated[str, typer.Option(autocompletion=words("prompts"), help="Prompts that it answers, as --harmful.")]
NTrain = Annotated[int, typer.Option(min=8, help="Prompts a side, at most, that make the direction.")]
Dtype = Annotated[
    str,
    typer.Option(
        autocompletion=words("dtype"),
        help="Run in auto (as stored), bfloat16 (bf16), float16 (fp16, half) or float32 (fp32); the files keep theirs.",
    ),
]
Device = Annotated[str, typer.Option(autocompletion=words("device"), help="auto, cpu, cuda, cuda:1, mps ...")]
MaxMemory = Annotated[
    str | None,
    typer.Option(
        help="Main memory to use, such as 16GB; layers beyond it stream from the disk. \\[default: what is free]",
        show_default=False,
    ),
]
BatchSize = Annotated[str, typer.Option(autocompletion=words("batch_size"), help="auto, or prompts per batch.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON object on stdout, everything else on stderr.")]
Force = Annotated[bool, typer.Option("--force", help="Replace --out if it exists.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never contact the Hub; use what is in its cache.")]
Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="Allow code that comes with the model. Read it first.")
]
Unproved = Annotated[
    bool,
    typer.Option("--allow-unproved", help="Edit an architecture whose writers cannot be proved; the result says so."),
]
EditedDtype = Annotated[
    str | None,
    typer.Option(
        "--edited-dtype",
        autocompletion=words("dtype"),
        help="Write the edited weights of a quantised model unquantised, in a dtype as --dtype has them; auto, as without: "
        "they keep its format.",
        show_default=False,
    ),
]
Revision = Annotated[str | None, typer.Option(help="Branch, tag or commit on the Hub.", show_default=False)]
System = Annotated[str | None, typer.Option(help="System message to put before every prompt.", show_default=False)]
Thinking = Annotated[
    str, typer.Option(autocompletion=words("thinking"), help="Thinking switch of the chat template: on, off or auto.")
]
Template = Annotated[
    Path | None, typer.Option(help="A Jinja file, for models without a chat template.", show_default=False)
]
AS_RUN = "\\[default: as in the run of the edited model, else {usual}]"

RunHarmful = Annotated[
    str | None,
    typer.Option(
        "--harmful",
        help=f"Prompts that the model declines, as for a run. {AS_RUN.format(usual='builtin:harmful')}",
        show_default=False,
    ),
]
RunHarmless = Annotated[
    str | None,
    typer.Option(
        "--harmless",
        help=f"Prompts that it answers, as --harmful. {AS_RUN.format(usual='builtin:harmless')}",
        show_default=False,
    ),
]
RunSystem = Annotated[
    str | None,
    typer.Option(
        "--system",
        help=f"System message to put before every prompt; '' for none. {AS_RUN.format(usual='none')}",
        show_default=False,
    ),
]
RunThinking = Annotated[
    str | None,
    typer.Option(
        "--thinking",
        help=f"Thinking switch of the chat template: on, off or auto. {AS_RUN.format(usual='auto')}",
        show_default=False,
    ),
]
RunTemplate = Annotated[
    Path | None,
    typer.Option(
        "--chat-template",
        help=f"A Jinja file; '' for the model's own. {AS_RUN.format(usual='the model’s own')}",
        show_default=False,
    ),
]

Optimize = Annotated[
    bool,
    typer.Option(
        "--optimize",
        help="Go on from the automatic choice: find direction, strengths per layer and site by gradient.",
    ),
]
TargetRefusals = Annotated[
    float | None,
    typer.Option(help="With --optimize: least KL at no more than this share of refusals.", show_default=False),
]
MaxKl = Annotated[
    float | None,
    typer.Option(
        help="With --optimize: fewest refusals at no more than this KL (nats). \\[default: the knee of the front]",
        show_default=False,
    ),
]
Save = Annotated[
    str,
    typer.Option(
        autocompletion=listed("save"),
        help="What to write, by commas: checkpoint, adapter (PEFT), gguf-adapter (llama.cpp). Beside a checkpoint, "
        "adapters go to OUT/adapter and OUT/adapter.gguf.",
    ),
]
Push = Annotated[
    str | None, typer.Option(help="Also push the result to this Hub repository (private).", show_default=False)
]


TRAINING = "With --mode harden"
Steps = Annotated[
    int | None,
    typer.Option(help="Optimiser steps. \\[default: 150]", show_default=False, rich_help_panel=TRAINING),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        help="\\[default: 1e-3, which suits the tiny model; a model of 0.5B was given 5e-4]",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]
Rank = Annotated[
    int | None, typer.Option(help="Rank of the LoRA. \\[default: 16]", show_default=False, rich_help_panel=TRAINING)
]
AblateProbability = Annotated[
    float | None,
    typer.Option(
        help="Share of the harmful rows under ablation; 0 is the control that hardens nothing. \\[default: 0.5]",
        show_default=False,
        rich_help_panel=TRAINING,
    ),
]

OUT_NAMES = {"ablate": "abliterated", "induce": "induced", "harden": "hardened"}
"""What is put behind the model's name where no --out is given, by mode."""


def options(model: str, out: Path | None, **given: Any) -> Options:
    """Turn what was typed into Options."""
    from abliterate.architectures.architecture import SITES
    from abliterate.directions.directions import METHODS
    from abliterate.exports.forms import SAVED_FORMS
    from abliterate.models.loading import dtype_name
    from abliterate.pipeline.options import Options
    from abliterate.prompts.chat_format import THINKING_MODES

    for name in ("layer", "batch_size"):
        if name in given:
            given[name] = number(f"--{name.replace('_', '-')}", given[name], None if name == "layer" else "auto")
    if given.get("system") == "":
        given["system"] = None  # no message is not an empty one
    if given.get("chat_template") == Path():  # what an empty text becomes
        given["chat_template"] = None
    if given.get("max_memory") is not None:
        given["max_memory"] = memory(given["max_memory"])
    for name in ("dtype", "edited_dtype"):
        if given.get(name) is not None:
            given[name] = dtype_name(f"--{name.replace('_', '-')}", given[name])
    if given.get("edited_dtype") == "auto":
        del given["edited_dtype"]
    for name in ("sites", "save"):
        if name in given:
            given[name] = tuple(word.strip() for word in given[name].split(",") if word.strip())
    known_words = {
        "mode": tuple(OUT_NAMES),
        "direction": METHODS,
        "thinking": THINKING_MODES,
        "sites": SITES,
        "save": SAVED_FORMS,
    }
    for name, known in known_words.items():
        words = given[name] if isinstance(given.get(name), tuple) else [given.get(name, known[0])]
        if not words or not set(words) <= set(known):
            raise InputError(f"--{name} {','.join(words)}: choose among {', '.join(known)}")
    return Options(model, out or default_out(model, OUT_NAMES[given.get("mode", "ablate")]), **given)


def default_out(model: str, ending: str) -> Path:
    """Return `NAME-ending` in the current folder, after the last part of the model's name."""
    return Path(f"{Path(model).expanduser().resolve().name.removesuffix('.gguf')}-{ending}")


def number(flag: str, text: str, auto: Any) -> Any:
    """Return a whole number, or `auto` where the text says so."""
    if text == "auto":
        return auto
    try:
        return int(text)
    except ValueError:
        raise InputError(f"{flag} {text}: give a whole number or auto") from None


def memory(text: str) -> int:
    """Return the bytes that a size such as 16GB or 4GiB stands for."""
    from accelerate.utils import convert_file_size_to_int

    try:
        return int(convert_file_size_to_int(text.upper()))
    except ValueError:
        raise InputError(f"--max-memory {text}: give a size such as 16GB or 900MB") from None
