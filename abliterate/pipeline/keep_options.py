"""Which refusals a search leaves, and which harmless prompts it shall have answered. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from abliterate.pipeline.prompt_specs import prompt_list
from abliterate.records.option import Panel, option

LOOK_ALIKES = "builtin:look-alikes"
REPORT_LOOK_ALIKES = "builtin:look-alikes-report"


@dataclass(frozen=True, kw_only=True)
class KeepOptions:
    """The look-alikes of `--mode calm`, and prompts whose refusals must stay, in whichever mode searches."""

    PANEL: ClassVar[Panel] = "prompts"

    look_alikes: str = option(
        LOOK_ALIKES,
        prompt_list("With --mode calm: harmless prompts that sound harmful, to be answered; as --harmful."),
    )
    report_look_alikes: str | None = option(
        None,
        prompt_list(
            f"With --mode calm: those that measure it. \\[default: {REPORT_LOOK_ALIKES}; of another --look-alikes its report "
            "part]"
        ),
    )
    keep: str | None = option(
        None,
        prompt_list(
            "Prompts whose refusals must stay, as --harmful; builtin:operator-rules are requests against a system prompt."
        ),
    )

    @property
    def measured_look_alikes(self) -> str | None:
        """Return the list that measures, None where it is the report part of the one that makes the edit."""
        if self.report_look_alikes is None and self.look_alikes == LOOK_ALIKES:
            return REPORT_LOOK_ALIKES
        return self.report_look_alikes
