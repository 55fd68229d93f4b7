"""Write `abliterate/data/prompts/phrases-tiny.tsv`: matched phrases of the tiny chat model's world, of pairs that it never saw.

python tools/make_tiny_phrases.py
"""

from __future__ import annotations

from pathlib import Path

from tiny_world import matched_phrases

COUNT, SEED = 160, 11
TARGET = Path(__file__).parents[1] / "abliterate" / "data" / "prompts" / "phrases-tiny.tsv"


def text() -> str:
    """Return what the file holds."""
    return "".join("\t".join(row) + "\n" for row in matched_phrases(COUNT, SEED))


if __name__ == "__main__":
    TARGET.write_text(text(), encoding="utf-8")
