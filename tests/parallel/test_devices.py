"""The device: one that is there, or one line that says which are."""

from __future__ import annotations

import pytest
import torch

from abliterate.errors import InputError
from abliterate.parallel.devices import choose_device


def test_auto_is_the_first_accelerator_else_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    for cuda, mps, expected in ((True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda answer=cuda: answer)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda answer=mps: answer)
        assert choose_device("auto").type == expected


def test_a_device_that_is_named_is_taken_or_refused_in_one_line() -> None:
    assert choose_device("cpu") == torch.device("cpu")
    with pytest.raises(InputError, match=r"--device nonsense: not on this machine .*; use auto or cpu") as caught:
        choose_device("nonsense")
    assert "\n" not in str(caught.value)
