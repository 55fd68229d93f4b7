"""The algebra of quantised weights, held against the quantisers and dequantisers of transformers and compressed-tensors."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from abliterate.errors import CheckpointError, InputError
from abliterate.projection import component, normalize, orthonormal_basis, project_out
from abliterate.quantization.dequantize import dequantize
from abliterate.quantization.formats.base import Packed
from abliterate.quantization.formats.fp8 import Fp8
from abliterate.quantization.requantize import LEAK_LIMIT, measure_leak, project_packed, project_scales, requantize
from fixtures.quantizers import CONFIGS, dequantised, format_named, quantise_by_hand, quantised

names = pytest.mark.parametrize("name", CONFIGS)


def weight_of(name: str, d_model: int = 128, width: int = 96, seed: int = 0) -> tuple[Tensor, int]:
    """A weight and the axis of its residual stream; mxfp4 stacks experts `[experts, in, out]`."""
    generator = torch.Generator().manual_seed(seed)
    if name == "mxfp4":
        return torch.randn(2, width, d_model, generator=generator) * 0.05, -1
    return torch.randn(d_model, width, generator=generator) * 0.05, -2


def direction_of(d_model: int = 128, seed: int = 1) -> Tensor:
    return normalize(torch.randn(d_model, generator=torch.Generator().manual_seed(seed)))


def same(one: Packed, other: Packed) -> bool:
    pairs = ((one.values, other.values), (one.scales, other.scales))
    return all(a.dtype == b.dtype and torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in pairs)


@names
def test_reads_what_the_published_dequantiser_reads(name: str) -> None:
    packed = quantised(name, weight_of(name)[0])
    assert torch.equal(dequantize(packed, format_named(name)), dequantised(name, packed))


@names
def test_a_weight_that_was_not_edited_stays_bit_for_bit(name: str) -> None:
    format = format_named(name)
    weight, axis = weight_of(name)
    packed = quantised(name, weight)
    assert same(requantize(dequantize(packed, format), packed, format), packed)
    # A direction that the weight has nothing along changes nothing either, however it is rounded.
    silent = weight.clone()
    silent.movedim(axis, -1)[..., 5] = 0.0
    packed = quantised(name, silent)
    assert same(project_packed(packed, format, torch.eye(128)[5], axis=axis), packed)


@names
def test_fresh_scales_are_those_of_the_published_quantiser(name: str) -> None:
    format = format_named(name)
    weight, _ = weight_of(name)
    packed = quantised(name, weight)
    again = requantize(weight, quantised(name, weight * 1000), format)
    assert torch.allclose(again.scales.float(), packed.scales.float(), rtol=1e-6, atol=0)
    apart = (dequantize(again, format) - dequantize(packed, format)).abs()
    assert float((apart > 1e-6).float().mean()) < 1e-3  # ties and scales that differ in the last bit


@names
def test_little_comes_back_where_rounding_to_nearest_brings_back_much(name: str) -> None:
    format, direction = format_named(name), direction_of()
    weight, axis = weight_of(name)
    packed = quantised(name, weight)
    leak = measure_leak(packed, project_packed(packed, format, direction, axis=axis), format, direction, axis=axis)
    plain = requantize(project_out(dequantize(packed, format), direction, axis=axis), packed, format)
    nearest = measure_leak(packed, plain, format, direction, axis=axis)
    assert leak.share < 0.01
    assert leak.share < nearest.share / 5
    assert not leak.too_much
    assert leak.error < 1.5 * nearest.error  # the rest of the weight does not pay for it


@names
def test_the_figures_of_a_leak_are_norms_of_the_dequantised_weights(name: str) -> None:
    format, direction = format_named(name), direction_of()
    weight, axis = weight_of(name)
    packed = quantised(name, weight)
    edited = project_packed(packed, format, direction, 0.7, axis)
    leak = measure_leak(packed, edited, format, direction, 0.7, axis)
    before, after = dequantize(packed, format), dequantize(edited, format)
    target = project_out(before, direction, 0.7, axis)
    assert leak.norm_before == pytest.approx(float(before.norm()), rel=1e-5)
    assert leak.norm_after == pytest.approx(float(after.norm()), rel=1e-5)
    assert leak.before == pytest.approx(component(before, direction, axis), rel=1e-4)
    assert leak.projected == pytest.approx(component(target, direction, axis), rel=1e-3)
    assert leak.stored == pytest.approx(component(after, direction, axis), rel=1e-3)
    assert leak.error == pytest.approx(float((after - target).norm()), rel=1e-4)
    assert leak.projected == pytest.approx(0.3 * leak.before, rel=1e-3)
    assert leak.stored == pytest.approx(leak.projected, rel=0.02)
    assert leak.largest >= leak.missed / leak.norm_after  # the greatest is no less than the root mean square


@names
def test_the_scales_alone_are_those_of_the_whole(name: str) -> None:
    format, direction = format_named(name), direction_of()
    weight, axis = weight_of(name)
    packed = quantised(name, weight)
    for strength in (1.0, -3.0):
        whole = project_packed(packed, format, direction, strength, axis)
        scales = project_scales(packed, format, direction, strength, axis)
        assert torch.equal(scales.view(torch.uint8), whole.scales.view(torch.uint8))
        assert same(whole, project_packed(packed, format, direction, strength, axis))


@names
def test_a_basis_of_three_is_removed_and_the_axis_may_be_the_other_one(name: str) -> None:
    format = format_named(name)
    weight, axis = weight_of(name, 128, 128)
    basis = orthonormal_basis(torch.randn(3, 128, generator=torch.Generator().manual_seed(3)))
    packed = quantised(name, weight)
    for along in (axis, -3 - axis):
        leak = measure_leak(packed, project_packed(packed, format, basis, axis=along), format, basis, axis=along)
        assert not leak.too_much


@settings(max_examples=40, deadline=None)
@given(
    out=st.integers(1, 70), width=st.integers(1, 70), rows=st.integers(1, 40), columns=st.integers(1, 40),
    axis=st.sampled_from([0, 1, -1, -2]), seed=st.integers(0, 1000),
)  # fmt: skip
def test_shapes_that_are_no_multiple_of_the_block(
    out: int, width: int, rows: int, columns: int, axis: int, seed: int
) -> None:
    format = Fp8(("block",), (rows, columns))
    weight = torch.randn(out, width, generator=torch.Generator().manual_seed(seed))
    packed = quantise_by_hand(weight, format)
    before = dequantize(packed, format)
    assert float((before - weight).abs().max()) <= 2**-4 * float(weight.abs().max())
    assert same(requantize(before, packed, format), packed)
    direction = normalize(torch.randn(weight.shape[axis], generator=torch.Generator().manual_seed(seed + 1)))
    edited = project_packed(packed, format, direction, axis=axis)
    assert edited.values.shape == packed.values.shape
    assert edited.scales.shape == packed.scales.shape
    leak = measure_leak(packed, edited, format, direction, axis=axis)
    nearest = requantize(project_out(before, direction, axis=axis), packed, format)
    # Never more than rounding to nearest leaves, up to what float32 sums are worth.
    assert leak.missed <= measure_leak(packed, nearest, format, direction, axis=axis).missed + 1e-5 * leak.norm_before


@settings(max_examples=20, deadline=None)
@given(experts=st.integers(1, 3), groups=st.integers(1, 3), out=st.integers(2, 50), seed=st.integers(0, 1000))
def test_stacked_experts_of_any_shape(experts: int, groups: int, out: int, seed: int) -> None:
    format = format_named("mxfp4")
    weight = torch.randn(experts, 32 * groups, out, generator=torch.Generator().manual_seed(seed))
    packed = quantised("mxfp4", weight)
    assert torch.equal(dequantize(packed, format), dequantised("mxfp4", packed))
    assert same(requantize(dequantize(packed, format), packed, format), packed)


def test_a_leak_that_is_too_much_is_said() -> None:
    """A tensor of few rows on a coarse grid has no other numbers to take: what is left is measured, not hoped away."""
    format = format_named("mxfp4")
    weight = torch.zeros(1, 32, 3)
    weight[0, :, 0], weight[0, :, 1] = 6.0, 6.0
    packed, direction = quantised("mxfp4", weight), normalize(torch.tensor([1.0, 0.11, 0.0]))
    leak = measure_leak(packed, project_packed(packed, format, direction), format, direction)
    assert leak.share > 0
    plain = requantize(dequantize(packed, format), packed, format)
    assert measure_leak(packed, plain, format, direction).too_much
    assert measure_leak(packed, plain, format, direction).share == pytest.approx(1.0)
    assert LEAK_LIMIT == 0.1


def test_zeros_stay_zero() -> None:
    for name in CONFIGS:
        weight, axis = weight_of(name)
        packed = quantised(name, weight * 0)
        edited = project_packed(packed, format_named(name), direction_of(), axis=axis)
        assert float(dequantize(edited, format_named(name)).abs().max()) == 0.0
        leak = measure_leak(packed, edited, format_named(name), direction_of(), axis=axis)
        assert (leak.share, leak.largest, leak.too_much) == (0.0, 0.0, False)


def test_bad_weights_are_named() -> None:
    format = format_named("fp8 block")
    good = quantised("fp8 block", weight_of("fp8 block")[0])
    bad = good.values.clone()
    bad.view(torch.uint8)[0, 0] = 0x7F  # NaN in e4m3
    with pytest.raises(CheckpointError, match="tensor w: expected finite numbers, found NaN or infinity"):
        dequantize(Packed("w", bad, good.scales), format)
    with pytest.raises(CheckpointError, match=r"scale per block of 16 x 16, found .* with scales .* \(7, 6\)"):
        dequantize(Packed("w", good.values, good.scales[:-1].contiguous()), format)
    with pytest.raises(CheckpointError, match="float16"):
        dequantize(Packed("w", good.values.half(), good.scales), format)
    with pytest.raises(InputError, match="the direction has d_model 3"):
        project_packed(good, format, torch.ones(3))
    with pytest.raises(InputError, match=r"expected shape \(128, 96\), found \(128, 95\)"):
        requantize(torch.ones(128, 95), good, format)
    with pytest.raises(InputError, match="one of the last two axes"):
        project_packed(good, format, direction_of(), axis=5)
    with pytest.raises(CheckpointError, match="expected the shapes of the original"):
        measure_leak(good, quantised("fp8 block", torch.ones(16, 16)), format, direction_of())
