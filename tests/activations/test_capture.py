"""Activations are what the model computes at those places."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.activations.capture import Activations, capture
from abliterate.errors import InputError
from abliterate.pipeline.load import Loaded
from abliterate.prompts.prompt_set import PromptSet
from abliterate.storage.record_log import Unfinished
from abliterate.storage.tensor_file import save_whole
from fixtures.activations import activations
from fixtures.tiny_chat import TINY


def test_capture_is_what_the_model_computes_at_those_places() -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    model = model.float()
    prompts = ["How do I paint a fence?", "Tell me how to bake bread.", "Help me, please"]
    found = capture(model, tokenizer, prompts)
    assert found.positions == (-4, -3, -2, -1)
    for row, prompt in enumerate(prompts):
        text = tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], add_generation_prompt=True, tokenize=False
        )
        with torch.no_grad():
            output = model(**tokenizer(text, return_tensors="pt", add_special_tokens=False), output_hidden_states=True)
        # hidden_states[-1] of transformers is taken after the final norm, so the last layer is not comparable.
        for layer, expected in enumerate(output.hidden_states[:-1]):
            assert torch.allclose(found.resid[row, :, layer], expected[0, -4:], atol=1e-4)
        assert torch.allclose(model.model.norm(found.resid[row, :, -1]), output.hidden_states[-1][0, -4:], atol=1e-3)
    assert torch.equal(found.at([-1, -3]).resid, found.resid[:, [3, 1]])
    with pytest.raises(InputError, match="position -5 was not captured; there are -4, -3, -2, -1"):
        found.at([-5])


def test_activations_that_are_not_numbers_are_refused() -> None:
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    with torch.no_grad():
        model.model.layers[2].mlp.down_proj.weight[0, 0] = torch.nan
    with pytest.raises(InputError, match=r"prompt 1 are NaN or infinite at resid\[3\]"):
        capture(model, tokenizer, ["a", "b"])


def test_a_part_that_was_damaged_is_captured_again(
    loaded: Loaded, cache: Path, tmp_path: Path, computed: Counter[str]
) -> None:
    prompts = loaded.splits.harmful.prompts[:40]
    how: dict[str, Any] = {"batch_size": 8, "architecture": loaded.architecture}
    expected = capture(loaded.model, loaded.splits.chat, prompts, **how)
    computed.clear()
    first = capture(loaded.model, loaded.splits.chat, prompts, kept=Unfinished(tmp_path / "parts"), **how)
    parts = sorted((tmp_path / "parts").glob("*.safetensors"))
    assert len(parts) == computed["activations"] == 5
    parts[2].write_bytes(parts[2].read_bytes()[:-9])
    again = capture(loaded.model, loaded.splits.chat, prompts, kept=Unfinished(tmp_path / "parts"), **how)
    assert computed["activations"] == 6
    assert torch.equal(first.resid, expected.resid)
    assert torch.equal(again.resid, expected.resid)


def test_prompts_of_every_form_give_the_same_activations() -> None:
    """A caller's conversations, Dataset and Series are what they hold; what is none of that is refused."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(TINY).eval(), AutoTokenizer.from_pretrained(TINY)
    texts = ["How do I bake bread?", "Name a river."]
    wanted = capture(model, tokenizer, texts).resid
    for given in (
        [[{"role": "user", "content": text}] for text in texts],
        Dataset.from_dict({"id": [1, 2], "prompt": texts}),
        pandas.Series(texts),
        PromptSet("own", tuple(texts)),
    ):
        assert torch.equal(capture(model, tokenizer, given).resid, wanted)
    for wrong in ("How do I bake bread?", {"prompt": texts}, pandas.DataFrame({"prompt": texts}), [1, 2], []):
        with pytest.raises(InputError, match=r"prompt") as caught:
            capture(model, tokenizer, wrong)
        assert len(str(caught.value).splitlines()) == 1


def test_activations_are_a_sequence_of_prompts(tmp_path: Path) -> None:
    one = activations(0)
    assert len(one) == len(list(one)) == 9
    assert torch.equal(one[-1], one.resid[8])
    assert torch.equal(torch.stack(list(one)), one.resid)
    assert torch.equal(one[2:4].resid, one.resid[2:4])
    assert one[2:4].positions == one.positions
    assert repr(one) == "Activations(9 prompts, resid[0..4], positions -2..-1, d_model 12, torch.float32)"
    assert "<td>9</td>" in one._repr_html_()
    assert one.to_pandas().loc[(8, -1, 4)].tolist() == pytest.approx(one.resid[8, 1, 4].tolist())
    assert one.plot().data[1].y[4] == pytest.approx(float(one.resid[:, 1, 4].norm(dim=-1).mean()))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_activations_are_kept_to_the_bit(dtype: torch.dtype, tmp_path: Path) -> None:
    one = Activations(activations(0).resid.to(dtype), (-2, -1))
    one.save(tmp_path / "activations.safetensors")
    for place in (tmp_path, str(tmp_path / "activations.safetensors")):
        read = Activations.load(place)
        assert torch.equal(read.resid, one.resid)
        assert (read.resid.dtype, read.positions) == (dtype, (-2, -1))


def test_a_file_that_holds_no_activations_is_refused(tmp_path: Path) -> None:
    for tensors, record in (
        ({"resid": torch.ones(2, 3)}, {"positions": [-1]}),
        ({"resid": torch.ones(2, 1, 3, 4)}, {"positions": [-2, -1]}),
        ({"resid": torch.ones(2, 1, 3, 4)}, {}),
        ({"other": torch.ones(2, 1, 3, 4)}, {"positions": [-1]}),
    ):
        save_whole(tmp_path / "a", tensors, {"abliterate": json.dumps(record)})
        with pytest.raises(InputError, match="holds no activations"):
            Activations.load(tmp_path / "a")
