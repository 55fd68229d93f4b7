"""`abliterate demo`: the main job on the bundled tiny chat model."""

from __future__ import annotations

from contextlib import ExitStack
from importlib import resources
from pathlib import Path

import torch

from abliterate.pipeline.options import Options
from abliterate.pipeline.run import Result, run
from abliterate.progress import SILENT, Progress


def demo(out: Path, progress: Progress = SILENT) -> Result:
    """Run the main job on the bundled tiny chat model, with prompts that it was not trained on.

    By the published rule: a search takes longer than all else, and one direction is all that this model has.
    """
    with ExitStack() as files:
        folder = files.enter_context(resources.as_file(resources.files("abliterate") / "data" / "tiny-chat"))
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # too small to share: threads would wait for each other most of the time
        files.callback(torch.set_num_threads, threads)
        options = Options(
            str(folder), out, harmful=str(folder / "harmful.txt"), harmless=str(folder / "harmless.txt"), device="cpu",
            optimize=False,
        )  # fmt: skip
        return run(options, progress)
