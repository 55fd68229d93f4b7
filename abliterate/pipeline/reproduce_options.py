"""What whoever repeats a run says about it, declared once. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from abliterate.pipeline.form_options import FormOptions
from abliterate.pipeline.judge_options import JudgeOptions
from abliterate.pipeline.keep_options import KeepOptions
from abliterate.pipeline.options import ModelOptions, PromptOptions, TemplateOptions
from abliterate.records.option import Declaration, Panel, declarations, option

MODEL = declarations(ModelOptions)
JUDGE = declarations(JudgeOptions)


@dataclass(frozen=True)
class ReproduceOptions:
    """What whoever repeats a run says about it; what is None is taken from the manifest."""

    PANEL: ClassVar[Panel] = "prompts"

    model: str | None = option(
        None, Declaration("The original. \\[default: the Hub id that the manifest names]", panel="model")
    )
    harmful: str | None = option(
        None,
        replace(declarations(PromptOptions)["harmful"], help="The harmful prompts, if they do not lie beside it."),
    )
    harmless: str | None = option(None, replace(declarations(PromptOptions)["harmless"], help="The harmless ones."))
    look_alikes: str | None = option(
        None, replace(declarations(KeepOptions)["look_alikes"], help="The look-alikes of its --mode calm.")
    )
    report_look_alikes: str | None = option(
        None, replace(declarations(KeepOptions)["report_look_alikes"], help="Those that measured it.")
    )
    judge: str | None = option(None, replace(JUDGE["judge"], help="Who counted at the ends of its search's stages."))
    judge_endpoint: str | None = option(None, JUDGE["judge_endpoint"])
    judge_model: str | None = option(None, JUDGE["judge_model"])
    keep: str | None = option(None, replace(declarations(KeepOptions)["keep"], help="The prompts of its --keep."))
    chat_template: Path | None = option(
        None,
        replace(
            declarations(TemplateOptions)["chat_template"],
            help="The chat template, if the run had one that does not.",
            read=Path,
            none=None,
        ),
    )
    phrases: str | None = option(
        None,
        replace(declarations(FormOptions)["phrases"], help="The phrases of its --form, if they do not lie beside it."),
    )
    forms: str | None = option(None, replace(declarations(FormOptions)["forms"], help="The forms, likewise."))
    device: str = option("auto", MODEL["device"])
    max_memory: int | None = option(None, MODEL["max_memory"])
    offline: bool = option(False, MODEL["offline"])
    trust_remote_code: bool = option(False, MODEL["trust_remote_code"])
    allow_unproved: bool = option(False, MODEL["allow_unproved"])
