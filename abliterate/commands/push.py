"""`abliterate push`: upload a finished checkpoint with its card and manifest."""

from __future__ import annotations

from pathlib import Path

from abliterate.hub import push as upload
from abliterate.progress import SILENT, Progress


def push(folder: Path, repository: str, public: bool = False, progress: Progress = SILENT) -> str:
    """Push a folder that abliterate wrote, and return where it is; a new repository is private unless `public`.

    Raises InputError for any other folder, HubError when the Hub refuses or cannot be reached.
    """
    return upload.push(folder, repository, public=public, progress=progress)
