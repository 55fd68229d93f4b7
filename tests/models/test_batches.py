"""Batches: every prompt once, and a prefix that all share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from abliterate.errors import InputError
from abliterate.models.batches import cut, prepare_batches, shared_prefix
from fixtures.sequences import SEQUENCES


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


def test_a_batch_size_below_one_is_refused(llama: PreTrainedModel) -> None:
    with pytest.raises(InputError, match="--batch-size 0"):
        prepare_batches(llama, SEQUENCES, 0)
