"""The lab as a command: the address it prints, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from inspect import signature
from urllib.request import urlopen

import pytest

from abliterate.cli.lab import lab
from abliterate.pipeline.run import Result
from fixtures.tiny_chat import TINY


@pytest.mark.slow
def test_it_prints_an_address_and_ends_well_at_ctrl_c(edited: Result) -> None:
    words = ["lab", str(edited.out), "--against", str(TINY), "--device", "cpu", "--dtype", "float32", "--json"]
    process = subprocess.Popen(
        [sys.executable, "-m", "abliterate", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    said = json.loads(process.stdout.readline())
    assert said["note"].startswith("one model in memory, the edit as hooks")
    assert b"<title>" in urlopen(said["address"]).read()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert "Ctrl-C ends the lab" in err
    assert "Traceback" not in err


def test_a_model_that_is_no_edit_is_refused(refused: Callable[..., str]) -> None:
    assert "along which the lab looks; give a folder that abliterate wrote" in refused("lab", TINY)


def test_it_opens_no_browser_unless_asked() -> None:
    assert signature(lab).parameters["open_page"].default is False
