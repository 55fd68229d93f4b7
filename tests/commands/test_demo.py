"""The demonstration: the bundled model in a folder of its own, and the threads of the caller as they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abliterate.commands import demo as module
from abliterate.commands.demo import demo
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import Result


@pytest.mark.parametrize("fails", [False, True])
def test_it_runs_on_one_thread_and_gives_the_others_back(
    result: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    asked: list[tuple[Options, int]] = []

    def run(options: Options, progress: object) -> Result:
        asked.append((options, torch.get_num_threads()))
        if fails:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(module, "run", run)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        if fails:
            with pytest.raises(KeyboardInterrupt):
                demo(tmp_path / "out")
        else:
            assert demo(tmp_path / "out") is result
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    ((options, threads),) = asked
    assert threads == 1
    assert options.out == tmp_path / "out"
    assert (Path(options.model) / "config.json").is_file()
    assert [Path(options.harmful).name, Path(options.harmless).name] == ["harmful.txt", "harmless.txt"]
