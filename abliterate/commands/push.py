"""`abliterate push`: upload a finished checkpoint with its card and manifest."""

from __future__ import annotations

from pathlib import Path

from abliterate.hub import push as upload
from abliterate.pipeline.push_options import PushOptions
from abliterate.progress import SILENT, Progress


def push(folder: Path, repository: str, push_options: PushOptions | None = None, progress: Progress = SILENT) -> str:
    """Push a folder that abliterate wrote, and return where it is; a new repository is private unless that is said.

    Raises InputError for any other folder, HubError when the Hub refuses or cannot be reached.
    """
    chosen = push_options or PushOptions()
    chosen.check()
    return upload.push(
        folder,
        repository,
        public=chosen.public,
        message=chosen.commit_message,
        create_pr=chosen.create_pr,
        revision=chosen.revision,
        progress=progress,
    )
