"""Of which matched phrases, in which form and at which place, a run makes its direction. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from abliterate.records.option import Beside, Declaration, Panel, one_of, option

PHRASES, FORMS = "builtin:phrases", "builtin:forms"
"""As `prompts/phrases.py` and `prompts/forms.py` call them, which take time to import."""

HARM_PLACE = "1-harm"
LATER_PLACES = ("2", "3")
PLACES = ("1", HARM_PLACE, *LATER_PLACES)
"""Where a study of positions makes vectors: at the end of the prompt (of refused or of harmful ones), of a first or second sentence."""


def file_name(spec: str) -> str:
    """Return what may be published of a file or of a list of the package: no folder of this machine."""
    return spec if spec.startswith("builtin:") else Path(spec).name


def file_beside(text: str, beside: Beside) -> str:
    """Return the file that a record names, which lies beside it, or a list of the package. Raises InputError as `beside`."""
    return text if text.startswith("builtin:") else str(beside(text))


@dataclass(frozen=True, kw_only=True)
class FormOptions:
    """Which form of matched phrases makes the direction, where it is not the training prompts."""

    PANEL: ClassVar[Panel] = "edit"

    form: str | None = option(
        None,
        Declaration(
            "Make the direction of matched phrases in this form, such as open, not of the training prompts: a vector of "
            "abliterate positions. Layer and figures are still those of --harmful and --harmless.",
        ),
    )
    place: str = option(
        "1",
        Declaration(
            "With --form, where the vector is: 1, the end of the prompt, refused minus answered phrases; 1-harm, there, "
            "harmful minus harmless ones; 2 or 3, the end of the reply's first or second sentence.",
            read=one_of(PLACES),
            words=PLACES,
        ),
    )
    phrases: str = option(
        PHRASES,
        Declaration(
            "With --form, the phrases: builtin:phrases, builtin:phrases-tiny, or a file of lines "
            "CATEGORY<tab>HARMFUL<tab>HARMLESS.",
            words=(PHRASES, f"{PHRASES}-tiny"),
            publish=file_name,
            locate=file_beside,
        ),
    )
    forms: str = option(
        FORMS,
        Declaration("With --form, a TOML file of forms.", words=(FORMS,), publish=file_name, locate=file_beside),
    )
