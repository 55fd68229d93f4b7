"""Cross-entropy on a text: how well a model predicts what somebody wrote, apart from any chat."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.models.batches import BatchSize, prepare_batches
from abliterate.models.forward import final_hidden
from abliterate.models.head import HEAD_ROWS, Head, check_numbers
from abliterate.parallel.processes import Processes
from abliterate.progress import SILENT, Progress

WINDOW = 512
"""Tokens of a window: each is predicted from those before it in its window."""

WINDOWS = 64
"""Windows of a text, at most: 32 thousand tokens."""


def read_windows(path: Path, tokenizer: PreTrainedTokenizerBase) -> list[list[int]]:
    """Return the token ids of a text file in windows, with the tokenizer's own first token before each.

    Raises InputError for a file that cannot be read or that holds less than one window of two tokens.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"--text {path}: cannot be read as UTF-8 text ({error})") from error
    first = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    tokens = tokenizer(text, add_special_tokens=False)["input_ids"]
    size = WINDOW - len(first)
    windows = [[*first, *tokens[start : start + size]] for start in range(0, min(len(tokens), WINDOWS * size), size)]
    windows = [window for window in windows if len(window) > 1]
    if not windows:
        raise InputError(f"--text {path}: holds no text to predict; give a file of some thousand words")
    return windows


def text_losses(
    model: PreTrainedModel,
    windows: Sequence[Sequence[int]],
    *,
    batch_size: BatchSize = "auto",
    processes: Processes | None = None,
    progress: Progress = SILENT,
) -> list[float]:
    """Return the mean cross-entropy in nats a token of each window, whose first token is given.

    Raises InputError, naming the window, where it is NaN or infinite.
    """
    head, group = Head(model), processes or Processes()
    prepared = prepare_batches(model, windows, batch_size, share=False)
    own: list[list[float]] = []
    with progress.step("cross-entropy of the text", len(windows), "windows") as advance:
        for batch in group.own(prepared.batches):
            hidden = final_hidden(model, batch)
            own.append([])
            for place, row in enumerate(batch.rows):
                said = torch.tensor(windows[row][1:], device=hidden.device)
                states = hidden[place, : len(said)]
                losses = [
                    -head.log_probs(states[start : start + HEAD_ROWS]).gather(1, said[start : start + HEAD_ROWS, None])
                    for start in range(0, len(said), HEAD_ROWS)
                ]
                own[-1].append(float(torch.cat(losses).cpu().double().mean()))
            advance(len(batch.rows) * group.count)
    found = [0.0] * len(windows)
    for batch, given in zip(prepared.batches, group.gather(own), strict=True):
        for row, loss in zip(batch.rows, given, strict=True):
            found[row] = loss
    check_numbers(torch.tensor(found), f"window {{}} of {WINDOW} tokens of the text".format)
    return found
