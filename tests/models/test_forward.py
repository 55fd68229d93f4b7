from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.models.batches import cut, prepare_batches, shared_prefix
from abliterate.models.forward import at_positions, final_hidden, prefix_cache
from abliterate.models.head import Head
from fixtures.models import random_model

PREFIX = [11, 12, 13, 14]
SEQUENCES = [[*PREFIX, *own] for own in ([20, 21, 22], [30], [40, 41], [50, 51, 52, 53, 54, 55], [60, 61])]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=80), st.sampled_from(["auto", 1, 3, 16]), st.booleans())
def test_cut_keeps_every_prompt_once_and_in_order(lengths: list[int], batch_size: int | str, spare: bool) -> None:
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    batches = list(cut(order, lengths, batch_size, 2048, 1, spare))  # type: ignore[arg-type]
    assert [row for batch in batches for row in batch] == order
    if batch_size != "auto":
        assert max(map(len, batches)) <= int(batch_size)
    elif spare:
        real = sum(lengths)
        padded = sum(len(batch) * lengths[batch[0]] for batch in batches)
        # Little padding, once batches are worth speaking of: batches of up to 8 rows are never cut for it.
        assert padded - real <= 0.12 * padded + sum(lengths[batch[0]] * 8 for batch in batches)
    else:
        assert all(
            len(one) * lengths[one[0]] + lengths[one[0]] > 2048 for one in batches[:-1]
        )  # none could have held one more


@given(st.lists(st.lists(st.integers(0, 2), min_size=2, max_size=8), min_size=2, max_size=6), st.integers(1, 2))
def test_shared_prefix_is_shared_and_longest(sequences: list[list[int]], keep: int) -> None:
    count = shared_prefix(sequences, keep)
    assert len({tuple(sequence[:count]) for sequence in sequences}) == 1
    assert all(len(sequence) - count >= keep for sequence in sequences)
    longer = {tuple(sequence[: count + 1]) for sequence in sequences}
    assert len(longer) > 1 or min(map(len, sequences)) - (count + 1) < keep


@pytest.mark.parametrize("batch_size", ["auto", 1, 2])
def test_batches_and_prefix_change_nothing(model: PreTrainedModel, batch_size: int | str) -> None:
    prepared = prepare_batches(model, SEQUENCES, batch_size)  # type: ignore[arg-type]
    assert prepared.prefix == tuple(PREFIX)
    cache = prefix_cache(model, prepared.prefix)
    found = torch.empty(len(SEQUENCES), 48)
    for batch in prepared.batches:
        hidden = final_hidden(model, batch, cache)
        found[list(batch.rows)] = at_positions(hidden, batch, [-1])[:, 0]
    with torch.no_grad():
        alone = torch.stack([model.base_model(torch.tensor([sequence]))[0][0, -1] for sequence in SEQUENCES])
    assert torch.allclose(found, alone, atol=1e-4)


def test_the_cache_can_be_used_again(llama: PreTrainedModel) -> None:
    prepared = prepare_batches(llama, SEQUENCES)
    cache = prefix_cache(llama, prepared.prefix)
    first = final_hidden(llama, prepared.batches[0], cache)
    assert torch.equal(first, final_hidden(llama, prepared.batches[0], cache))


@pytest.mark.parametrize("family", ["llama", "gemma3_text", "gpt2"])
def test_head_is_the_models_own(family: str) -> None:
    changes = {"final_logit_softcapping": 3.0} if family == "gemma3_text" else {}
    model = random_model(family, **changes)
    tokens = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        expected = model(tokens).logits[0].log_softmax(-1)
        hidden = model.base_model(tokens)[0][0]
    head = Head(model)
    assert torch.allclose(head.log_probs(hidden), expected, atol=1e-5)
    assert torch.allclose(model(tokens).logits[0].log_softmax(-1), expected, atol=1e-5)  # the model still works


def test_head_keeps_nothing_but_the_head_alive() -> None:
    import gc
    import weakref

    model = random_model("llama", tie_word_embeddings=False)
    layer = weakref.ref(model.model.layers[0].mlp.down_proj.weight)
    head = Head(model)
    del model
    gc.collect()
    assert layer() is None
    assert head.log_probs(torch.randn(2, 48)).shape == (2, 97)


def test_a_batch_size_below_one_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(InputError, match="--batch-size 0"):
        prepare_batches(llama, SEQUENCES, 0)
