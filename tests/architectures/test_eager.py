"""Compiled code looks at hooks inside the context, and is used again after the last of several has ended."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from abliterate.architectures.eager import eager


@pytest.fixture
def compiled() -> Any:
    """A layer that torch.compile has traced, and the number of times that its compiled code ran."""
    torch.compiler.reset()
    runs = []

    def backend(graph: Any, inputs: Any) -> Any:
        def run(*args: Any) -> Any:
            runs.append(1)
            return graph.forward(*args)

        return run

    layer = torch.nn.Linear(3, 3)
    call = torch.compile(layer, backend=backend)
    call(torch.ones(1, 3))
    assert len(runs) == 1
    yield call, layer, runs
    torch.compiler.reset()


def test_hooks_take_part_inside_and_compiled_code_is_used_again(compiled: Any) -> None:
    call, layer, runs = compiled
    plain = call(torch.ones(1, 3))
    before = len(runs)
    handle = layer.register_forward_hook(lambda module, args, output: output + 1)
    with eager():
        assert torch.allclose(call(torch.ones(1, 3)), plain + 1)
    handle.remove()
    assert len(runs) == before
    call(torch.ones(1, 3))
    assert len(runs) == before + 1


def test_contexts_may_end_in_any_order(compiled: Any) -> None:
    call, _, runs = compiled
    first, second = eager(), eager()
    first.__enter__()
    second.__enter__()
    before = len(runs)
    first.__exit__(None, None, None)
    call(torch.ones(1, 3))
    assert len(runs) == before  # the second is still there
    second.__exit__(None, None, None)
    call(torch.ones(1, 3))
    assert len(runs) == before + 1


def test_an_error_inside_gives_compiled_code_back(compiled: Any) -> None:
    call, _, runs = compiled
    before = len(runs)
    with pytest.raises(ZeroDivisionError), eager():
        raise ZeroDivisionError
    call(torch.ones(1, 3))
    assert len(runs) == before + 1
