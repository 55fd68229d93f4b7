"""How a model is asked, as far as it was said: what is None is as in the run of the edited model. Declared once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

from abliterate.models.generation_modes import Generation
from abliterate.pipeline.options import (
    BUILTIN_HARMFUL,
    BUILTIN_HARMLESS,
    AskOptions,
    PromptOptions,
    TemplateOptions,
    read_template_path,
)
from abliterate.prompts.thinking_modes import Thinking
from abliterate.records.option import Declaration, Panel, declarations, option


def as_run(options: type, name: str, help: str, usual: str) -> Declaration:
    """Return the declaration of an option of a run for a verb that does as the run did where nothing is said."""
    help = f"{help} \\[default: as in the run of the edited model, else {usual}]"
    return replace(declarations(options)[name], help=help, none=None)


@dataclass(frozen=True, kw_only=True)
class SaidTemplate:
    """How a prompt is put to the model, and how it replies, as far as it was said; an empty text is none."""

    PANEL: ClassVar[Panel] = "prompts"

    system: str | None = option(
        None, as_run(TemplateOptions, "system", "System message to put before every prompt; '' for none.", "none")
    )
    thinking: Thinking | None = option(
        None, as_run(TemplateOptions, "thinking", "Thinking switch of the chat template: on, off or auto.", "auto")
    )
    chat_template: Path | None = option(
        None,
        replace(
            as_run(TemplateOptions, "chat_template", "A Jinja file; '' for the model's own.", "the model’s own"),
            read=Path,
        ),
    )
    generation: Generation | None = option(
        None,
        as_run(TemplateOptions, "generation", "greedy, or model: its own sampling settings, seeded.", "greedy"),
    )
    date: str | None = option(
        None,
        as_run(TemplateOptions, "date", "Day that the chat template writes, YYYY-MM-DD, where it writes one.", "today"),
    )

    @property
    def said(self) -> frozenset[str]:
        """Return the names of what was said."""
        return frozenset(name for name, value in vars(self).items() if value is not None)

    def on(self, options: AskOptions) -> AskOptions:
        """Return the options with what was said."""
        own = options.chat_template if self.chat_template is None else read_template_path(str(self.chat_template))
        return replace(
            options,
            system=options.system if self.system is None else self.system or None,
            thinking=options.thinking if self.thinking is None else self.thinking,
            chat_template=own,
            generation=options.generation if self.generation is None else self.generation,
            date=options.date if self.date is None else self.date or None,
        )


@dataclass(frozen=True, kw_only=True)
class SaidConditions(SaidTemplate):
    """What a model is asked, and how, as far as it was said."""

    PANEL: ClassVar[Panel] = "prompts"

    harmful: str | None = option(
        None,
        as_run(PromptOptions, "harmful", "Prompts that the model declines, as for a run.", BUILTIN_HARMFUL),
    )
    harmless: str | None = option(
        None, as_run(PromptOptions, "harmless", "Prompts that it answers, as --harmful.", BUILTIN_HARMLESS)
    )

    def on(self, options: AskOptions) -> AskOptions:
        """Return the options with what was said."""
        return replace(
            super().on(options),
            harmful=options.harmful if self.harmful is None else self.harmful,
            harmless=options.harmless if self.harmless is None else self.harmless,
        )
