"""Laws that every format keeps, those in the table and one that is added to it: its file and a line are enough."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.checkpoints.quantized_weight import quantised_tensors, quantized_weights
from abliterate.commands.apply import apply
from abliterate.commands.verify import verify
from abliterate.errors import CheckpointError
from abliterate.pipeline.options import Options
from abliterate.projection import component, normalize
from abliterate.quantization.dequantize import dequantize
from abliterate.quantization.formats.base import Format, Packed
from abliterate.quantization.formats.registry import FORMATS, read_format
from abliterate.quantization.requantize import measure_leak, project_packed, requantize
from fixtures.int8_format import Int8, int8_rows
from fixtures.quantized_models import LINEAR, random_checkpoint, save_direction
from fixtures.quantizers import CONFIGS, format_named

KNOWN = {name: format_named(name) for name in CONFIGS} | {"added": Int8()}
formats = pytest.mark.parametrize("format", KNOWN.values(), ids=KNOWN)


def elements(format: Format) -> Tensor:
    """Every element that the format may store, as one row; float8's two NaN and int8's -128 are none."""
    stored = torch.arange(256, dtype=torch.int16).to(torch.uint8)[None].view(format.dtype)
    return stored[:, (format.unpack(stored).reshape(256, -1).abs() <= format.top).all(-1)]


def grid(format: Format) -> Tensor:
    """The numbers of the format, in order, each once."""
    return format.unpack(elements(format)).unique()


def test_every_format_of_the_table_is_held_to_the_laws() -> None:
    assert {type(format) for format in KNOWN.values()} == {*FORMATS.values(), Int8}
    assert {name: one.method for name, one in FORMATS.items()} == {name: name for name in FORMATS}


@formats
def test_packing_undoes_unpacking_bit_for_bit(format: Format) -> None:
    stored = elements(format)
    assert stored.shape[1] >= 253
    again = format.pack(format.unpack(stored))
    assert again.dtype == stored.dtype
    assert torch.equal(again.view(torch.uint8), stored.view(torch.uint8))


@formats
def test_an_element_holds_as_many_numbers_as_it_says(format: Format) -> None:
    assert format.unpack(elements(format)).shape[1] == elements(format).shape[1] * format.per_element
    rows, columns = format.elements((slice(3, 5), slice(32, 96)))
    assert rows == slice(3, 5)
    assert (columns.stop - columns.start) * format.per_element == 64


@formats
def test_rounding_goes_to_the_nearest_number_and_leaves_those_of_the_grid(format: Format) -> None:
    numbers = grid(format)
    assert float(numbers.max()) == -float(numbers.min()) == format.top
    assert torch.equal(format.nearest(numbers), numbers)
    assert torch.equal(format.nearest(torch.tensor([1e6, -1e6])), torch.tensor([format.top, -format.top]))
    drawn = torch.randn(2000, generator=torch.Generator().manual_seed(0)) * format.top / 2
    drawn = drawn.clamp(-format.top, format.top)
    best = (drawn[:, None] - numbers).abs().amin(1)
    assert torch.equal((format.nearest(drawn) - drawn).abs(), best)


@formats
def test_the_gap_is_that_to_the_next_number_or_up_to_twice_of_it(format: Format) -> None:
    numbers = grid(format)
    positive = numbers[numbers >= 0]
    distance, gap = positive.diff(), format.gap(positive[:-1])
    assert bool((gap >= distance).all())
    assert bool((gap <= 2 * distance).all())


@formats
def test_scales_that_fit_stay_and_others_use_the_whole_grid(format: Format) -> None:
    for dtype in format.scale_dtypes:
        if dtype.itemsize == 1:
            old = torch.tensor([[120, 127, 130, 127]], dtype=torch.uint8).view(dtype)
        else:
            old = torch.tensor([[2.0**-7, 1.0, 8.0, 1.0]], dtype=dtype)
        scales = format.scale_numbers(old)
        assert torch.equal(scales, torch.tensor([[2.0**-7, 1.0, 8.0, 1.0]]))
        sizes = torch.tensor([[format.top, format.top / 2, format.reach, 0.0]]) * scales
        kept = format.fitted_scales(sizes, old)
        assert kept.dtype == dtype
        assert torch.equal(kept.view(torch.uint8), old.view(torch.uint8))
        fresh = format.scale_numbers(format.fitted_scales(sizes * 9, old))[:, :3]
        used = sizes[:, :3] * 9 / fresh
        assert bool((used <= format.top * 1.005).all())  # a scale in bfloat16 is rounded
        assert bool((used > format.top * 0.49).all())


@formats
def test_a_block_is_one_weight_with_its_scales_beside(format: Format) -> None:
    values = "a.weight" if format.parameter_of("a.weight") else "a.weight_blocks"
    for pattern in format.scale_names:
        scales = pattern.format("a.weight", module="a")
        found = format.companions(values, {values, scales})
        assert found is not None
        assert (found.parameter, found.values, found.scales) == ("a.weight", values, scales)
        assert format.companions(scales, {values, scales}) is None


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Format:
    """The second file: a line in the table."""
    monkeypatch.setitem(FORMATS, Int8.method, Int8)
    found = read_format({"quantization_config": {"quant_method": Int8.method}})
    assert found == Int8()
    return found


def test_an_added_format_goes_through_the_algebra(added: Format) -> None:
    generator = torch.Generator().manual_seed(0)
    weight, direction = torch.randn(64, 48, generator=generator), normalize(torch.randn(64, generator=generator))
    packed = Packed("w", *int8_rows(weight))
    read = dequantize(packed, added)
    assert float((read - weight).abs().max()) <= float(packed.scales.max()) / 2 * 1.0001
    again = requantize(read, packed, added)
    assert torch.equal(again.values, packed.values)
    assert torch.equal(again.scales, packed.scales)
    edited = project_packed(packed, added, direction, axis=0)
    leak = measure_leak(packed, edited, added, direction, axis=0)
    assert leak.share < 0.01
    assert component(dequantize(edited, added), direction, 0) < 0.01 * component(read, direction, 0)


@pytest.mark.slow
def test_an_added_format_goes_through_a_checkpoint(added: Format, tmp_path: Path) -> None:
    """Read, edited on disk in its own format, proved in the live model, verified; and written unquantised."""
    source = random_checkpoint("llama", tmp_path / "source")
    stored: dict[str, Tensor] = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        if LINEAR.search(name):
            stored[name], stored[f"{name}.row_scales"] = int8_rows(tensor.float())
        else:
            stored[name] = tensor
    save_file(stored, source / "model.safetensors", {"format": "pt"})
    config = json.loads((source / "config.json").read_text())
    listed = {"quant_method": Int8.method, "skipped": ["lm_head", "of its own"]}
    (source / "config.json").write_text(json.dumps({**config, "quantization_config": listed}))
    checkpoint = Checkpoint.open(source)
    weights = quantized_weights(checkpoint)
    assert len(weights) == 3 * 7
    assert weights["model.layers.0.mlp.down_proj.weight"].shape() == (128, 192)
    assert quantised_tensors(checkpoint)["model.layers.0.mlp.down_proj.weight"] == 1
    save_direction(tmp_path / "directions.safetensors")
    for edited_dtype in (None, "bfloat16"):
        out = tmp_path / f"out-{edited_dtype}"
        given = Options(str(source), out, device="cpu", dtype="float32", edited_dtype=edited_dtype)
        applied = apply(given, tmp_path / "directions.safetensors", None)
        assert applied.proof.holds
        after = Checkpoint.open(out).tensors["model.layers.0.mlp.down_proj.weight"]
        assert after.torch_dtype == (torch.bfloat16 if edited_dtype else torch.int8)
        assert verify(str(source), out, given).holds
        skipped = json.loads((out / "config.json").read_text())["quantization_config"]["skipped"]
        assert skipped[:2] == ["lm_head", "of its own"]
        assert ("model.layers.0.mlp.down_proj" in skipped) is bool(edited_dtype)


def test_what_is_refused_names_the_formats_of_the_table(added: Format) -> None:
    with pytest.raises(CheckpointError, match=r"fp8, compressed-tensors float-quantized, mxfp4 or rows of int8$"):
        read_format({"quantization_config": {"quant_method": "gptq"}})
