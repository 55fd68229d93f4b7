"""The user's cache folder."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for activations, dequantised GGUF files and what is unfinished: `$ABLITERATE_CACHE`, else the user's cache."""
    own = os.environ.get("ABLITERATE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(own) if own else (Path(base) if base else Path.home() / ".cache") / "abliterate"
