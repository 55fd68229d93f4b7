"""What the three verbs of features are asked besides what model and how. Imports nothing that takes time."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from abliterate.records.option import Declaration, one_of, option, split

RULES = ("prior", "published", "nearest")
"""As `method.py` has them, which takes time to import."""


@dataclass(frozen=True, kw_only=True)
class RowOptions:
    """Which rows."""

    sae: str | None = option(
        None,
        Declaration(
            "Rows: the folder or Hub id of an SAE (its features), or a .safetensors file of a run, a search or a study. "
            "\\[required]"
        ),
    )
    layer: int | None = option(
        None, Declaration("Layer of rows that do not tell theirs: resid[layer].", read=int, kind=int, least=0)
    )


@dataclass(frozen=True, kw_only=True)
class ExplainOptions(RowOptions):
    """Which rows are explained, and by which words."""

    row: tuple[str, ...] = option(
        (),
        Declaration("Explain of a file the rows of these names, by commas.", read=split, write=",".join, listed=True),
    )
    words: int = option(10, Declaration("Words for each row.", read=int, kind=int, least=1))
    rule: str = option(
        "prior",
        Declaration(
            "By which words are chosen: prior (mutual information), published (the same without the prior), nearest.",
            read=one_of(RULES),
            words=RULES,
        ),
    )
    temperature: float = option(
        1.0, Declaration("Divides the scores in p(row | word): below 1 rows compete harder.", read=float, kind=float)
    )
    vocabulary: Path | None = option(
        None, Declaration("A file of words to choose from. \\[default: those of the corpus]", read=Path, kind=Path)
    )
    most_words: int = option(5000, Declaration("Words of the vocabulary at most.", read=int, kind=int, least=2))
