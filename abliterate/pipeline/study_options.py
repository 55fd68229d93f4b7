"""What every study is asked: which model, which phrases in which forms, how many samples. Declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from abliterate.pipeline.form_options import FORMS, PHRASES
from abliterate.pipeline.options import ModelOptions, TemplateOptions
from abliterate.pipeline.out_folder import check_out_folder
from abliterate.records.option import Declaration, Panel, option, split

QUICK_PHRASES, QUICK_FORMS = 24, 3

QUICK_NOTE = "quick: no verdicts"
"""What a quick study says in place of every verdict, and among its notes."""

STUDY_FLAGS = (
    "model", "phrases", "forms", "only", "language", "samples", "quick", "out", "seed", "system", "thinking", "chat_template",
    "date", "dtype", "device", "max_memory", "batch_size", "revision", "offline", "trust_remote_code", "allow_unproved",
)  # fmt: skip
"""The options that every study has flags for."""

FRAMED_FLAGS = tuple(name for name in STUDY_FLAGS if name not in ("only", "samples"))
"""Those of a study that puts phrases into one frame, and asks for greedy replies alone."""


@dataclass(frozen=True, kw_only=True)
class StudyOptions(TemplateOptions, ModelOptions):
    """A model, what a study asks it, and where the result goes."""

    PANEL: ClassVar[Panel] = "study"

    phrases: str = option(
        PHRASES,
        Declaration(
            "Matched phrases: builtin:phrases, builtin:phrases-tiny, or a file of lines CATEGORY<tab>HARMFUL<tab>HARMLESS.",
            words=(PHRASES, f"{PHRASES}-tiny"),
        ),
    )
    forms: str = option(FORMS, Declaration("Forms to put them into: a TOML file.", words=(FORMS,)))
    only: tuple[str, ...] = option(
        (), Declaration("Take of the forms those of these names, by commas.", read=split, write=",".join, listed=True)
    )
    language: str = option("en", Declaration("Language of phrases and forms.", words=("en", "ko")))
    samples: int = option(
        4,
        Declaration(
            "Replies to draw for each text at temperature 1, besides the greedy one.", read=int, kind=int, least=0
        ),
    )
    quick: bool = option(
        False,
        Declaration(
            f"To try it: {QUICK_PHRASES} phrases, {QUICK_FORMS} forms, fewer controls; no verdicts.",
            kind=bool,
            here=True,
        ),
    )
    out: Path | None = option(
        None,
        Declaration(
            "Folder for the record, the vectors and the replies.", read=Path, kind=Path, here=True, panel="output"
        ),
    )

    def check(self) -> None:
        """Raise InputError, before anything is opened, for an --out that is no folder, or lies in none."""
        check_out_folder(self.out)
