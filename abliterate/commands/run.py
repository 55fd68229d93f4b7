"""`abliterate run`: the main job, with what must be known of `--push` before it."""

from __future__ import annotations

from abliterate.hub.push import check_push
from abliterate.parallel.processes import Processes
from abliterate.pipeline import run as job
from abliterate.pipeline.find import assist
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT, Progress


def run(options: Options, push: str | None = None, progress: Progress = SILENT) -> job.Result | None:
    """Find, edit, prove, measure; None in a process of a launcher that only helps the first.

    Raises what `pipeline.run` raises, and before anything else HubError where nothing can be pushed to `push`.
    """
    if not Processes.launched().first:
        assist(options)
        return None
    if push:
        check_push(push)
    return job.run(options, progress)
