"""Who else than the rules says what is refused while an edit is searched for, declared once. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.records.option import Declaration, Panel, option

ASKED = "asks a judge that the manifest names; pass --judge or --judge-endpoint yourself"


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """The judge of the edits that a search ends its stages with; the rules without any."""

    PANEL: ClassVar[Panel] = "measure"

    judge: str | None = option(
        None,
        Declaration(
            "Let a sequence classifier for refusals, Hub id or folder, count at the ends of the search's stages. "
            "\\[default: the rules]",
            refused=ASKED,
        ),
    )
    judge_endpoint: str | None = option(
        None, Declaration("Let a model on an OpenAI-compatible server count there.", refused=ASKED)
    )
    judge_model: str | None = option(None, Declaration("Its name there. \\[default: the only one]", refused=ASKED))

    @property
    def judged(self) -> bool:
        """Return whether somebody else than the rules is asked."""
        return self.judge is not None or self.judge_endpoint is not None

    def check_judge(self, searches: bool) -> None:
        """Raise InputError for two judges, one that has nothing to decide, and the name of a served one without its address."""
        if self.judge and self.judge_endpoint:
            raise InputError("--judge and --judge-endpoint: one judge decides; leave one of them away")
        if self.judge_model and not self.judge_endpoint:
            raise InputError("--judge-model names a model on a server; add --judge-endpoint URL")
        if self.judged and not searches:
            raise InputError("--judge counts where a search ends its stages; add --optimize, or leave it away")
        if self.judge_endpoint:
            require("endpoint", "--judge-endpoint")
