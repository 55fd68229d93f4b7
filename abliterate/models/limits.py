"""Whether a model can read what it is to be asked: known tokens, positions enough, memory enough. Looked at before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.models.offload import key_value_bytes

OFFSETS = 8
"""Rows that a table of positions may have beyond the positions: OPT counts from 2."""

LIVE_VECTORS = 12
"""Vectors of the stream's width that a token keeps alive while a layer computes: inputs, norms, queries, a wide MLP."""


def check_readable(
    model: PreTrainedModel, prompts: Sequence[str], tokens: Sequence[Sequence[int]], reply_tokens: int
) -> None:
    """Raise InputError, which names the prompt, for the first whose tokens or positions the model does not have.

    `model` may be on the meta device; `tokens` are the ids of each prompt under the chat template, `reply_tokens` the
    length of the replies. Only learned positions end somewhere; rotary ones go on.
    """
    known = int(model.get_input_embeddings().weight.shape[0])
    places = learned_positions(model)
    for text, ids in zip(prompts, tokens, strict=True):
        highest = max(ids, default=0)
        if highest >= known:
            raise InputError(
                f"the prompt {shown(text)} has the token {highest} under the chat template, and the embedding ends at "
                f"{known - 1}: tokens were added without the model being resized; resize it (resize_token_embeddings), or "
                "take its own tokenizer"
            )
        if places is not None and len(ids) + reply_tokens > places:
            raise InputError(
                f"the prompt {shown(text)} takes {len(ids)} tokens and its reply up to {reply_tokens}; the model has "
                f"{places} positions: shorten it, or leave it out"
            )


def check_memory(model: PreTrainedModel, prompts: Sequence[str], tokens: Sequence[Sequence[int]], free: int) -> None:
    """Raise InputError, which names the prompt, for the longest if the live model cannot read it in `free` bytes."""
    each = key_value_bytes(model) + LIVE_VECTORS * model.get_input_embeddings().weight.shape[1] * model.dtype.itemsize
    text, ids = max(zip(prompts, tokens, strict=True), key=lambda pair: len(pair[1]), default=("", ()))
    if len(ids) * each > free:
        raise InputError(
            f"the prompt {shown(text)} takes {len(ids)} tokens, about {len(ids) * each / 1e9:.1f} GB of activations, and "
            f"{max(0, free) / 1e9:.1f} GB are free: shorten it, or leave it out"
        )


def shown(text: str) -> str:
    """Return a prompt as messages quote it."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")


def learned_positions(model: PreTrainedModel) -> int | None:
    """Return how many positions a model has learned, None where its positions are computed and do not end."""
    most = getattr(model.config.get_text_config(decoder=True), "max_position_embeddings", None)
    if most is None:
        return None
    tokens, rows = model.get_input_embeddings(), range(int(most), int(most) + OFFSETS + 1)
    tables = (module for module in model.modules() if isinstance(module, nn.Embedding) and module is not tokens)
    wide = tokens.weight.shape[1]
    return int(most) if any(table.embedding_dim == wide and table.num_embeddings in rows for table in tables) else None
