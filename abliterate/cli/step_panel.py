"""Progress as one live panel on stderr, folded into a line when the work is done; plain lines where that is no terminal.

A step that is opened inside another stands under it: a run opens one of nine steps, and under it each of them says what it
does. What is done leaves the panel; the outermost step leaves a line.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from rich.console import Console, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

from abliterate.progress import Advance

STEPS = "steps"
"""The unit of work that consists of steps: they are counted in words, as `step 5 of 9`."""

WISHED = threading.Event()
"""Whether Ctrl-C was pressed."""


def heed() -> None:
    """Raise KeyboardInterrupt where one was raised before, and a library has lost it."""
    if WISHED.is_set():
        raise KeyboardInterrupt


class CountColumn(ProgressColumn):
    """How much is done of how much."""

    def render(self, task: Task) -> Text:
        """Return the count of a task."""
        return Text(count_text(int(task.completed), int(task.total or 1), task.fields["unit"], task.fields["outer"]))


class LeftColumn(ProgressColumn):
    """The time that is left of a step, as far as its speed says; of steps that are unlike one another it says nothing."""

    def render(self, task: Task) -> Text:
        """Return the time."""
        seconds = None if task.fields["outer"] and task.fields["unit"] == STEPS else task.time_remaining
        return Text("" if seconds is None else f"{clock_text(seconds)} left", style="cyan")


class PanelOfBars(Progress):
    """The bars of all open steps, in a frame."""

    def get_renderables(self) -> Iterable[RenderableType]:
        """Yield the frame, where any step is open."""
        if self.tasks:
            yield Panel(self.make_tasks_table(self.tasks), expand=False, border_style="dim")


class StepPanel:
    """Shows on a console how far the open steps are."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = PanelOfBars(
            TextColumn("{task.description}", markup=False),  # a title may hold the name of a folder
            BarColumn(),
            CountColumn(),
            TimeElapsedColumn(),
            LeftColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )

    @contextmanager
    def step(self, title: str, total: int, unit: str) -> Iterator[Advance]:
        """Show a step for the time of the context. Raises KeyboardInterrupt where a Ctrl-C came to nothing."""
        heed()
        scale, shown = (1_000_000, "MB") if unit == "B" else (1, unit)
        whole, begun = max(1, round(total / scale)), time.monotonic()
        above = self.bars.tasks[:1]
        if not above:
            self.bars.start()
        elif not self.console.is_terminal:
            self.say(f"{line_of(above[0])}{title}, {whole} {shown}")
        task = self.bars.add_task(title, total=whole, unit=shown, outer=not above)
        done = 0

        def advance(units: int) -> None:
            nonlocal done
            done += units
            heed()
            self.bars.update(task, completed=round(done / scale))

        try:
            yield advance
        finally:
            self.bars.remove_task(task)
            if not above:
                self.bars.stop()
        if not above:  # and no error came
            self.say(f"{title}: {whole} {shown} in {clock_text(time.monotonic() - begun)}")

    def say(self, line: str) -> None:
        """Print a line, above the panel where there is one."""
        self.console.print(Text(line, style="dim"), soft_wrap=True)


def line_of(task: Task) -> str:
    """Return what stands before the title of a step inside of another one."""
    outer = task.fields["unit"] == STEPS
    return f"{count_text(int(task.completed), int(task.total or 1), STEPS, outer)}: " if outer else ""


def count_text(done: int, total: int, unit: str, outer: bool) -> str:
    """Return how far a step is; of an outer one that consists of steps, in which it is."""
    if outer and unit == STEPS:
        return f"step {min(done + 1, total)} of {total}"
    return f"{done}/{total} {unit}"


def clock_text(seconds: float) -> str:
    """Return a time as h:mm:ss."""
    return str(timedelta(seconds=round(seconds)))
