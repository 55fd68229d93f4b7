"""Where rows are active, against a plain loop over tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abliterate.errors import InputError
from abliterate.models.live_model import LiveModel
from abliterate.studies.features.activity import FIRES, activity_of, aurocs, counted_aurocs
from abliterate.studies.features.corpus import Corpus
from abliterate.studies.features.rows import Rows, read_rows, rows_of
from abliterate.studies.features.tokens import capture_tokens
from fixtures.features import random_sae


def test_features_fire_where_their_codes_say(tiny_live: LiveModel, corpus: Corpus) -> None:
    sae = random_sae(tiny_live.architecture.d_model, 40, layer=5)
    found = activity_of(tiny_live, corpus, rows_of(sae, 5, "sae"))
    states = capture_tokens(tiny_live, [one.span for one in corpus.passages], 5)
    codes = sae.encode(states.states)
    assert torch.allclose(found.rates, (codes > 0).float().mean(0))
    strongest = torch.stack([codes[states.text == text].max(0).values for text in range(len(corpus))])
    assert torch.allclose(found.strongest, strongest)
    ends = capture_tokens(tiny_live, [one.ends for one in corpus.passages], 5)
    assert torch.allclose(found.ends["instruction_end"], sae.encode(ends.states[0::2]), atol=1e-4)
    assert torch.allclose(found.ends["prompt_end"], sae.encode(ends.states[1::2]), atol=1e-4)
    row = int(found.rates.argmax())
    every = torch.ones(len(corpus), dtype=torch.bool)
    best = codes[:, row].argmax()
    assert found.top_tokens(4, every)[row][0] == int(found.token_id[best])
    assert len(set(found.top_tokens(4, every)[row])) == 4


def test_a_direction_fires_at_the_tokens_that_have_most_of_it(
    tiny_live: LiveModel, corpus: Corpus, directions_file: Path
) -> None:
    rows = read_rows(directions_file, tiny_live.architecture.d_model)
    found = activity_of(tiny_live, corpus, rows)
    train = torch.tensor([one.part == "train" for one in corpus.passages])[found.text]
    row = rows.names.index("resid.5")
    fired = found.entries.token[found.entries.row == row]
    assert float(train[fired].sum() / train.sum()) == pytest.approx(1 - FIRES, abs=0.01)
    refused = torch.tensor([one.refused for one in corpus.passages])
    assert float(aurocs(found.ends["prompt_end"][:, row : row + 1], refused)[0]) > 0.95


def test_a_row_of_no_layer_cannot_be_looked_for(tiny_live: LiveModel, corpus: Corpus) -> None:
    rows = Rows("file", torch.ones(1, 160), ("learned",), (None,))
    with pytest.raises(InputError, match="learned is of no layer; say with --layer"):
        activity_of(tiny_live, corpus, rows)


def test_aurocs_are_shares_of_pairs() -> None:
    values = torch.tensor([[3.0, 1.0], [1.0, 1.0], [2.0, 1.0], [0.0, 0.0]])
    first = torch.tensor([True, True, False, False])
    assert aurocs(values, first).tolist() == pytest.approx([0.75, 0.75])
    assert bool(aurocs(values, torch.ones(4, dtype=torch.bool)).isnan().all())
    many = torch.randn(20, 600)
    side = torch.rand(20) > 0.5
    each = torch.cat([aurocs(many[:, one : one + 1], side) for one in range(600)])
    assert torch.allclose(aurocs(many, side), each)


def test_aurocs_of_counts_are_those_of_any_values_side_by_side() -> None:
    drawn = torch.Generator().manual_seed(3)
    counts = torch.randint(0, 5, (40, 30), generator=drawn).float()
    first = torch.rand(40, 30, generator=drawn) < 0.3
    first[:, 0], first[:, 1] = True, False
    found = counted_aurocs(counts, first)
    for place in range(30):
        (usual,) = aurocs(counts[:, place : place + 1], first[:, place])
        assert torch.allclose(found[place], usual, atol=1e-6, equal_nan=True)
    assert found[:2].isnan().all()
    assert torch.allclose(counted_aurocs(counts, ~first)[2:], 1 - found[2:], atol=1e-6)
