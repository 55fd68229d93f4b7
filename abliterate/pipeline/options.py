"""What a run is asked to do, declared once, in groups.

The command line, the command in the manifest and `reproduce` derive from these declarations. Nothing that takes time is
imported: --help and completion read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from abliterate.architectures.edit_forms import EDIT_FORMS, EditForm
from abliterate.architectures.sites import SITES, Site
from abliterate.directions.methods import METHODS
from abliterate.exports.forms import EXPORT_FORMS, SAVED_FORMS, described
from abliterate.hub.names import public_name
from abliterate.models.dtypes import DTYPE_NAMES, read_dtype
from abliterate.models.generation_modes import GENERATIONS, Generation
from abliterate.pipeline.form_options import FormOptions
from abliterate.pipeline.judge_options import JudgeOptions
from abliterate.pipeline.keep_options import KeepOptions
from abliterate.pipeline.prompt_specs import prompt_list
from abliterate.pipeline.search_options import SearchOptions
from abliterate.prompts.moment import read_date
from abliterate.prompts.thinking_modes import THINKING_MODES, Thinking
from abliterate.records.option import KEY, Declaration, Panel, one_of, option, some_of, split, whole_number
from abliterate.replies.behaviours import BEHAVIOURS, REFUSAL
from abliterate.storage.names import TEMPLATE

if TYPE_CHECKING:
    from abliterate.models.batches import BatchSize

Mode = Literal["ablate", "calm", "induce", "harden"]
MODES: tuple[Mode, ...] = get_args(Mode)

OUT_NAMES: Mapping[str, str] = {"ablate": "abliterated", "calm": "calmed", "induce": "induced", "harden": "hardened"}
"""What is put behind the model's name where no --out is given, by mode."""

BUILTIN_HARMFUL = "builtin:harmful"

BUILTIN_HARMLESS = "builtin:everyday"
"""Of topics of their own. With those that match the harmful ones, KL is larger on the select split, and a run that keeps within its limit
leaves more refusals; near harm, what it takes costs less (docs/benchmarks.md, "Harmless prompts of other topics")."""

DTYPES = ("auto", *DTYPE_NAMES)


def read_memory(text: str) -> int:
    """Return the bytes that a size such as 16GB or 4GiB stands for."""
    from accelerate.utils import convert_file_size_to_int

    try:
        return int(convert_file_size_to_int(text.upper()))
    except ValueError:
        raise ValueError("give a size such as 16GB or 900MB") from None


def read_batch_size(text: str) -> BatchSize:
    """Read a batch size."""
    return "auto" if text == "auto" else whole_number(text)


def read_template_path(text: str) -> Path | None:
    """Return the file of a chat template, None for an empty text, which is the model's own."""
    return None if Path(text) == Path() else Path(text)


def default_out(given: Mapping[str, Any]) -> Path:
    """Return `NAME-ending` in the current folder, after the last part of the model's name."""
    name = Path(public_name(given["model"])).name.removesuffix(".gguf")
    return Path(f"{name}-{OUT_NAMES[given.get('mode', 'ablate')]}")


@dataclass(frozen=True, kw_only=True)
class EditOptions:
    """Which edit; `strength` None is 1 for an ablation; for an addition it is found."""

    PANEL: ClassVar[Panel] = "edit"

    mode: Mode = option(
        "ablate",
        Declaration(
            "ablate removes the direction; calm removes over-refusal only: harmless prompts that sound harmful are answered, "
            "what is harmful is refused as before; induce adds the direction, for a model that refuses more (in a bias where the model has "
            "one for it, else as an adapter); harden trains an adapter under which refusal survives the edit.",
            read=one_of(MODES),
            words=MODES,
        ),
    )
    target: str = option(
        REFUSAL,
        Declaration(
            f"Behaviour that shall go: {' or '.join(BEHAVIOURS)}; of another than refusal, --harmful has prompts whose replies show it.",
            read=one_of(BEHAVIOURS),
            words=tuple(BEHAVIOURS),
        ),
    )
    layer: int | None = option(
        None,
        Declaration(
            "auto, or the number of the layer whose resid gives the direction.",
            read=whole_number,
            words=("auto",),
            none="auto",
            none_shown=True,
        ),
    )
    direction: str = option(
        "projected",
        Declaration(
            f"{' or '.join(f'{name} ({method.words})' for name, method in METHODS.items())}.",
            read=one_of(METHODS),
            words=tuple(METHODS),
        ),
    )
    strength: float | None = option(
        None,
        Declaration(
            "1 removes the component, 0 leaves it, -1 doubles it; with --mode induce, how many times the difference "
            "in means is added. \\[default: 1; found, with --mode induce]",
            read=float,
            kind=float,
        ),
    )
    sites: tuple[Site, ...] = option(
        SITES,
        Declaration(
            "Which writers to edit, by commas: embed,attn,mlp.",
            read=some_of(SITES),
            write=",".join,
            words=SITES,
            listed=True,
        ),
    )
    edit_form: EditForm = option(
        "projection",
        Declaration(
            "projection, or columns: what each input writes loses the direction and keeps its length.",
            read=one_of(EDIT_FORMS),
            words=EDIT_FORMS,
        ),
    )
    edited_dtype: str | None = option(
        None,
        Declaration(
            "Write the edited weights of a quantised model unquantised, in a dtype as --dtype has them; auto, as without: "
            "they keep its format.",
            read=read_dtype,
            words=DTYPES,
            none="auto",
        ),
    )

    thought: int | None = option(
        None,
        Declaration(
            "For models that think: let it think first, for so many tokens at most; the direction is taken at the end of its own "
            "thoughts, replies and KL behind and inside of them, and both modes are measured.",
            read=int,
            kind=int,
            least=1,
            panel="prompts",
        ),
    )

    @property
    def removal(self) -> float:
        """Return the strength of an ablation at every site."""
        return 1.0 if self.strength is None else self.strength


@dataclass(frozen=True, kw_only=True)
class PromptOptions:
    """Which prompts make, choose and measure an edit."""

    PANEL: ClassVar[Panel] = "prompts"

    harmful: str = option(
        BUILTIN_HARMFUL,
        prompt_list("Prompts that the model declines: org/dataset[:split[:column]] or FILE[:column]."),
    )
    harmless: str = option(
        BUILTIN_HARMLESS,
        prompt_list("Prompts that it answers, as --harmful; builtin:harmless are matched to builtin:harmful by topic."),
    )
    n_train: int = option(
        128, Declaration("Prompts a side, at most, that make the direction.", read=int, kind=int, least=8)
    )


@dataclass(frozen=True, kw_only=True)
class ModelOptions:
    """Which model, and how it is loaded and run."""

    PANEL: ClassVar[Panel] = "model"

    model: str = field(
        kw_only=False,
        metadata={
            KEY: Declaration("Hub id (org/name@revision), local folder or .gguf file.", argument=True, here=True)
        },
    )
    dtype: str = option(
        "auto",
        Declaration(
            "Run in auto (as stored; float32 where the processor has no instructions for that), bfloat16 (bf16), float16 (fp16, half) or "
            "float32 (fp32); the files keep theirs.",
            read=read_dtype,
            words=DTYPES,
            panel="hardware",
        ),
    )
    device: str = option(
        "auto",
        Declaration(
            "auto, cpu, cuda, cuda:1, mps ...", words=("auto", "cpu", "cuda", "mps"), here=True, panel="hardware"
        ),
    )
    max_memory: int | None = option(
        None,
        Declaration(
            "Main memory to use, such as 16GB; layers beyond it stream from the disk. \\[default: what is free]",
            read=read_memory,
            write=lambda value: f"{value / 1024}KiB",
            here=True,
            panel="hardware",
        ),
    )
    batch_size: BatchSize = option(
        "auto", Declaration("auto, or prompts per batch.", read=read_batch_size, words=("auto",), panel="hardware")
    )
    seed: int = option(0, Declaration("Seed of everything random.", read=int, kind=int))
    offline: bool = option(
        False, Declaration("Never contact the Hub; use what is in its cache.", kind=bool, here=True, panel="hub")
    )
    trust_remote_code: bool = option(
        False,
        Declaration(
            "Allow code that comes with the model. Read it first.",
            kind=bool,
            panel="model",
            refused="runs code that comes with the model; read it, then pass --trust-remote-code yourself",
        ),
    )
    allow_unproved: bool = option(
        False,
        Declaration(
            "Edit an architecture whose writers cannot be proved; the result says so.",
            kind=bool,
            panel="model",
            refused="edits an architecture that cannot be proved; pass --allow-unproved yourself",
        ),
    )
    revision: str | None = option(None, Declaration("Branch, tag or commit on the Hub."))


@dataclass(frozen=True, kw_only=True)
class TemplateOptions:
    """How a prompt is put to the model, and how it replies."""

    PANEL: ClassVar[Panel] = "prompts"

    system: str | None = option(None, Declaration("System message to put before every prompt.", none=""))
    thinking: Thinking = option(
        "auto",
        Declaration(
            "Thinking switch of the chat template: on, off or auto.", read=one_of(THINKING_MODES), words=THINKING_MODES
        ),
    )
    chat_template: Path | None = option(
        None,
        Declaration(
            "A Jinja file, for models without a chat template.",
            read=read_template_path,
            kind=Path,
            none="",
            publish=lambda _: TEMPLATE,  # under which the run keeps it beside the manifest
            locate=lambda text, beside: beside(text),
        ),
    )
    generation: Generation = option(
        "greedy",
        Declaration(
            "How replies are made: greedy, by weights and prompt alone; or model, by the sampling settings of its own "
            "generation config, seeded.",
            read=one_of(GENERATIONS),
            words=GENERATIONS,
        ),
    )
    date: str | None = option(
        None,
        Declaration(
            "Day that the chat template writes, YYYY-MM-DD, where it writes one. \\[default: today, which is recorded]",
            read=read_date,
            none="",
        ),
    )


@dataclass(frozen=True, kw_only=True)
class AskOptions(TemplateOptions, ModelOptions, PromptOptions):
    """A model, what it is asked, and how."""


def read_left_out(text: str) -> tuple[Site, ...]:
    """Read the sites that are left out, none for an empty text."""
    words = split(text)
    sites = tuple(site for site in SITES if site in words)
    if len(sites) != len(words):
        raise ValueError(f"choose among {', '.join(SITES)}")
    return sites


LEAVE_OUT = Declaration(
    "Sites to leave out of a GGUF adapter, by commas: embed, where it is tied.",
    read=read_left_out,
    write=",".join,
    words=SITES,
    listed=True,
)
"""For whichever verb writes one."""


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """What is written, and where."""

    PANEL: ClassVar[Panel] = "output"

    out: Path = field(
        kw_only=False,
        metadata={
            KEY: Declaration(
                "Folder for the result. \\[default: NAME-abliterated, -calmed, -induced or -hardened]",
                read=Path,
                kind=Path,
                usual=default_out,
                here=True,
            )
        },
    )
    force: bool = option(False, Declaration("Replace --out if it exists.", kind=bool, here=True))
    save: tuple[str, ...] = option(
        ("checkpoint",),
        Declaration(
            f"What to write, by commas: {described(SAVED_FORMS)}. Beside a checkpoint, adapters go to "
            f"{' and '.join(f'OUT/{form.saved_as}' for form in EXPORT_FORMS.values() if form.saved_as)}.",
            read=some_of(SAVED_FORMS),
            write=",".join,
            words=SAVED_FORMS,
            listed=True,
        ),
    )
    leave_out: tuple[Site, ...] = option((), LEAVE_OUT)
    keep_paths: bool = option(
        False,
        Declaration(
            "Let an adapter name a model of this machine by its path, so that PEFT finds it; such an adapter is not pushed.",
            kind=bool,
            here=True,
        ),
    )


@dataclass(frozen=True, kw_only=True)
class Options(KeepOptions, JudgeOptions, SearchOptions, OutputOptions, AskOptions, FormOptions, EditOptions):
    """What a run is asked to do; the defaults are those of the command. `model` and `out` come first: Options(model, out).

    Examples:
        >>> Options("org/model", Path("edited"), layer=15, system="Be brief.").layer
        15
    """

    @property
    def searches(self) -> bool:
        """Return whether an edit is searched for: as it was said, else where nothing else says which edit it shall be."""
        if self.optimize is not None:
            return self.optimize
        said = (self.layer, self.strength, self.form) != (None, None, None) or self.edit_form != "projection"
        return self.mode == "calm" or (self.mode == "ablate" and not said)
