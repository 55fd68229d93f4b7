"""What every verb of features is asked: which model, and the texts in which features are looked for. Declared once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from abliterate.pipeline.options import ModelOptions, TemplateOptions
from abliterate.pipeline.out_folder import check_out_folder
from abliterate.pipeline.prompt_specs import PROMPT_LISTS
from abliterate.records.option import Declaration, Panel, option, split

FEATURE_FLAGS = (
    "model", "corpus", "texts", "reply_tokens", "out", "seed", "system", "thinking", "chat_template", "date", "dtype", "device",
    "max_memory", "batch_size", "revision", "offline", "trust_remote_code", "allow_unproved",
)  # fmt: skip
"""The options of a corpus that explain and train have flags for."""


@dataclass(frozen=True, kw_only=True)
class CorpusOptions(TemplateOptions, ModelOptions):
    """A model, and the texts in which features are looked for."""

    PANEL: ClassVar[Panel] = "study"

    corpus: tuple[str, ...] = option(
        PROMPT_LISTS,
        Declaration(
            "Lists of prompts, by commas, each as --harmful of a run; the model's own replies to them are part of it.",
            read=split,
            write=",".join,
            words=PROMPT_LISTS,
            listed=True,
        ),
    )
    texts: int = option(
        240, Declaration("Prompts to take at most, of each list as many.", read=int, kind=int, least=24)
    )
    reply_tokens: int = option(16, Declaration("Tokens of each reply; 0 for none.", read=int, kind=int, least=0))
    out: Path | None = option(
        None, Declaration("Folder for the result.", read=Path, kind=Path, here=True, panel="output")
    )

    def check(self) -> None:
        """Raise InputError, before anything is opened, for an --out that is a file, or lies in no folder."""
        check_out_folder(self.out)
