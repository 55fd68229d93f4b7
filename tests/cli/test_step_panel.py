"""Progress on stderr: one panel while the work goes on, one line when it is done, plain lines without a terminal."""

from __future__ import annotations

import io
import re

import pytest

from abliterate.cli import step_panel
from abliterate.cli.step_panel import WISHED, StepPanel, clock_text, count_text
from abliterate.cli.terminal import Terminal
from abliterate.progress import Progress

STYLES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


def shown(terminal: bool, quiet: bool = False) -> tuple[StepPanel, io.StringIO]:
    file = io.StringIO()
    console = Terminal(file=file, force_terminal=terminal, width=100, quiet=quiet)
    return StepPanel(console), file


def work(panel: Progress) -> None:
    """A run of three steps, the second of which says nothing of itself."""
    with panel.step("the run", 3, "steps") as advance:
        with panel.step("capturing activations", 4, "prompts") as inner:
            inner(4)
        advance(1)
        advance(1)
        with panel.step("writing", 5_000_000, "B") as inner:
            inner(5_000_000)
        advance(1)


def test_without_a_terminal_a_line_says_which_step_begins_and_one_what_was_done() -> None:
    panel, file = shown(terminal=False)
    work(panel)
    with panel.step("proving every tensor", 2_000_000, "B") as advance:
        advance(2_000_000)
    assert file.getvalue().splitlines() == [
        "step 1 of 3: capturing activations, 4 prompts",
        "step 3 of 3: writing, 5 MB",
        "the run: 3 steps in 0:00:00",
        "proving every tensor: 2 MB in 0:00:00",
    ]


def test_on_a_terminal_the_panel_is_wiped_and_a_line_stays() -> None:
    panel, file = shown(terminal=True)
    with panel.step("the run", 3, "steps") as advance:
        advance(1)
        with panel.step("capturing activations", 4, "prompts") as inner:
            inner(2)
            panel.bars.refresh()
            drawn = STYLES.sub("", file.getvalue())
    assert "step 2 of 3" in drawn
    assert "2/4 prompts" in drawn
    left = STYLES.sub("", file.getvalue().rpartition("the run: 3 steps in")[2])
    assert "prompts" not in left.replace("\n", "")
    assert not panel.bars.tasks


def test_quiet_is_silent() -> None:
    for terminal in (True, False):
        panel, file = shown(terminal, quiet=True)
        work(panel)
        assert STYLES.sub("", file.getvalue()).strip() == ""


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_comes_out_and_leaves_no_line(terminal: bool) -> None:
    panel, file = shown(terminal)
    with pytest.raises(ZeroDivisionError), panel.step("a", 1, "steps"), panel.step("b", 1, "steps"):
        raise ZeroDivisionError
    assert " in 0:" not in file.getvalue()
    assert not panel.bars.tasks
    work(panel)  # which can be used again
    assert "the run: 3 steps" in file.getvalue()


def test_a_lost_interrupt_is_heeded() -> None:
    panel, _ = shown(terminal=False)
    with panel.step("a", 2, "prompts") as advance:
        WISHED.set()
        try:
            with pytest.raises(KeyboardInterrupt):
                advance(1)
        finally:
            WISHED.clear()
    step_panel.heed()


def test_counts_and_times() -> None:
    assert count_text(4, 9, "steps", True) == "step 5 of 9"
    assert count_text(9, 9, "steps", True) == "step 9 of 9"
    assert count_text(4, 9, "steps", False) == "4/9 steps"
    assert clock_text(3725.2) == "1:02:05"
