"""The edit of checkpoints on disk: what it writes, what verification says of it, and disks and files that fail."""

from __future__ import annotations

import math
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from abliterate.checkpoints.checkpoint import Checkpoint
from abliterate.commands.apply import apply
from abliterate.commands.verify import verify
from abliterate.directions.directions import Directions
from abliterate.edits.plan import EditPlan
from abliterate.edits.tensor_edits import TensorEdit
from abliterate.edits.write import changed_texts
from abliterate.errors import CheckpointError, ProofError
from abliterate.pipeline.options import Options
from abliterate.projection import component, frobenius, project_out
from abliterate.proofs.tensors import compare_tensors, verify_tensors
from fixtures.checkpoints import snapshot, tensor_bytes, write_checkpoint, write_file
from fixtures.edits import BASIS, SHAPES, WIDTH, edit_of, edited, plan_of, small_blocks
from fixtures.tiny_chat import TINY

DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2]
MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

# --- properties ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A tensor of some dtype and shape in one of the shards, and what is done to it."""

    name: str
    shard: int
    shape: tuple[int, ...]
    dtype: torch.dtype
    edit: TensorEdit | None


@st.composite
def layouts(draw: st.DrawFn) -> list[Drawn]:
    """Draw tensors in any order, some of them edited along any axis that fits."""
    count, found = draw(st.integers(1, 3)), []
    for number, name in enumerate(draw(st.permutations([f"layers.{index}.w" for index in range(7)]))):
        shape = draw(st.sampled_from(SHAPES))
        axes = [axis for axis, length in enumerate(shape) if length == WIDTH]
        axis = draw(st.sampled_from([None, *axes, *(axis - len(shape) for axis in axes)]))
        strength, rank = draw(st.sampled_from([1.0, 0.5, -1.0])), draw(st.integers(1, 2))
        edit = None if axis is None else edit_of(name, axis, strength, rank)
        found.append(Drawn(name, number % count, shape, draw(st.sampled_from(DTYPES)), edit))
    return found


@given(layouts(), st.integers(1, 2), st.data())
@settings(max_examples=60, deadline=None)
def test_edited_tensors_are_project_out_and_all_else_is_bit_for_bit(
    drawn: list[Drawn], threads: int, data: st.DataObject
) -> None:
    torch.manual_seed(0)
    shards: list[dict[str, torch.Tensor]] = [{} for _ in {one.shard for one in drawn}]
    for one in drawn:
        shards[one.shard][one.name] = torch.randn(one.shape).to(one.dtype)
    plan = plan_of(*(one.edit for one in drawn if one.edit))
    with small_blocks(), tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        torch.set_num_threads(threads)
        source = Checkpoint.open(write_checkpoint(Path(folder, "source"), *shards, metadata={"format": "pt"}))
        before = snapshot(source.folder)
        result = edited(plan, source, Path(folder, "edited"))
        torch.set_num_threads(1)
        assert snapshot(source.folder) == before
        assert result.shards == source.shards
        assert set(snapshot(result.folder)) == set(before)
        for name in source.tensors:
            original, found = source.read(name), result.read(name)
            edit = plan.edits.get(name)
            expected = project_out(original, edit.basis, edit.strength, edit.axis) if edit else original
            assert tensor_bytes(found) == tensor_bytes(expected)

        for report in verify_tensors(plan, source, result):
            edit, original, found = plan.edits[report.name], source.read(report.name), result.read(report.name)
            assert math.isclose(report.norm_before, frobenius(original), rel_tol=1e-5)
            assert math.isclose(report.norm_after, frobenius(found), rel_tol=1e-5)
            assert math.isclose(report.component_before, component(original, edit.basis, edit.axis), rel_tol=1e-4)
            assert math.isclose(report.component_after, component(found, edit.basis, edit.axis), rel_tol=1e-4)

        # One bit anywhere in the data is seen, and blamed on the tensor that holds it; of edited numbers, which another
        # machine may round otherwise, one that matters.
        holding = [name for name, entry in result.tensors.items() if entry.nbytes]
        if not holding:
            return
        changed = result.entry(data.draw(st.sampled_from(holding)))
        path, position = result.path(changed.shard), data.draw(st.integers(changed.start, changed.end - 1))
        content, bit, width = bytearray(path.read_bytes()), data.draw(st.integers(0, 7)), changed.torch_dtype.itemsize
        if changed.name in plan.edits and width > 1:
            position, bit = position - (position - changed.start) % width + width - 1, 6  # the highest of the exponent
        content[position] ^= 1 << bit
        path.write_bytes(content)
        verdicts = compare_tensors(plan, source, result)
        assert [verdict.name for verdict in verdicts if verdict.status == "other"] == [changed.name]


# --- verdicts --------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("threads")
def test_every_tensor_that_is_other_is_listed_with_what_is_wrong(tmp_path: Path) -> None:
    tensors = {name: torch.randn(6, WIDTH) for name in ("same", "edit", "unedited", "gone", "turned", "cast", "wrong")}
    plan = plan_of(*(edit_of(name, 1) for name in ("edit", "unedited", "turned")))
    source = Checkpoint.open(write_checkpoint(tmp_path / "source", tensors))
    changed = {**tensors, "edit": project_out(tensors["edit"], BASIS[:1]), "turned": tensors["turned"].T.contiguous()}
    changed |= {"cast": tensors["cast"].half(), "wrong": tensors["wrong"] + 1, "more": tensors["same"]}
    del changed["gone"]
    result = Checkpoint.open(write_checkpoint(tmp_path / "result", changed))
    verdicts = {verdict.name: verdict for verdict in compare_tensors(plan, source, result)}
    assert list(verdicts) == [*tensors, "more"]
    assert {name: verdict.status for name, verdict in verdicts.items() if verdict.status != "other"} == {
        "same": "untouched",
        "edit": "edited",
    }
    assert {name: verdict.problem for name, verdict in verdicts.items() if verdict.problem} == {
        "unedited": "differs from what the plan makes of the original",
        "gone": "missing from the edited checkpoint",
        "turned": "expected F32 [6, 8], found F32 [8, 6]",
        "cast": "expected F32 [6, 8], found F16 [6, 8]",
        "wrong": "is outside the plan, but differs from the original",
        "more": "extra: nothing of this name is expected",
    }
    report = verdicts["unedited"].report
    assert report is not None
    assert report.component_after == report.component_before > 0
    with pytest.raises(ProofError, match=r"unedited: differs from what the plan makes .*and 5 more tensors are not"):
        verify_tensors(plan, source, result)


# --- files and disks that fail ---------------------------------------------------------------------------------------


def three_shards(folder: Path, numbers: int = 3 << 14) -> tuple[Checkpoint, EditPlan]:
    shards = [{f"{name}.w": torch.randn(numbers // WIDTH, WIDTH), f"{name}.i": torch.randn(numbers)} for name in "abc"]
    return Checkpoint.open(write_checkpoint(folder, *shards)), plan_of(*(edit_of(f"{name}.w", 1) for name in "abc"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of one megabyte, where the test may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", folder], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"may not mount a small disk: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.usefixtures("threads")
def test_a_full_disk_is_said_and_a_larger_one_is_filled_by_a_rerun(small_disk: Path, tmp_path: Path) -> None:
    source, plan = three_shards(tmp_path / "source")
    before = snapshot(source.folder)
    expected = snapshot(edited(plan, source, tmp_path / "expected").folder)
    with pytest.raises(CheckpointError, match=r"disk full: .* nothing was changed; free some space or choose another"):
        edited(plan, source, small_disk / "edited")
    assert not (small_disk / "edited").exists()
    assert len(list((small_disk / "edited.partial").glob("*.safetensors"))) == 2  # what was finished stays
    assert snapshot(source.folder) == before
    subprocess.run(["mount", "-o", "remount,size=4m", small_disk], check=True)
    assert snapshot(edited(plan, source, small_disk / "edited").folder) == expected


@pytest.mark.usefixtures("threads")
def test_a_limit_on_file_sizes_is_said(tmp_path: Path) -> None:
    source, plan = three_shards(tmp_path / "source")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(CheckpointError, match=r"cannot be copied to .*File too large.; check the path"):
            edited(plan, source, tmp_path / "edited")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert not list(tmp_path.glob("edited*/*.safetensors"))


@pytest.mark.usefixtures("threads")
def test_a_shard_that_is_cut_after_it_was_opened_is_named(tmp_path: Path) -> None:
    source, plan = three_shards(tmp_path / "source")
    cut = source.entry("b.w")
    os.truncate(source.path(cut.shard), cut.start + 1000)
    with pytest.raises(CheckpointError, match=r"00002-of-00003.safetensors: changed since it was opened"):
        edited(plan, source, tmp_path / "edited")
    with pytest.raises(CheckpointError, match=r"truncated in tensor 'b.w': expected .* bytes, found 1000; download"):
        compare_tensors(plan, source, source)


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="needs a file that cannot be read")
def test_a_read_error_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to("/proc/self/mem")  # its first bytes answer EIO
    with pytest.raises(CheckpointError, match=r"cannot be read .Input/output error.; check the path, its permissions"):
        Checkpoint.open(tmp_path)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float8_e5m2])
@pytest.mark.parametrize("axis", [0, 1])
def test_nan_and_overflow_are_found_in_any_block(tmp_path: Path, axis: int, dtype: torch.dtype) -> None:
    plan, path = plan_of(edit_of("w", axis, -4.0)), write_checkpoint(tmp_path / "source") / "model.safetensors"
    for position in (0, 20, 71):
        nan = torch.randn(9, WIDTH)
        nan.reshape(-1)[position] = torch.nan
        large = torch.zeros(9, WIDTH)
        large[position // WIDTH] = BASIS[0] * torch.finfo(dtype).max * 0.9
        for bad, expected in (
            (nan, r"tensor 'w' holds NaN; expected finite weights; download it again"),
            (large, r"tensor 'w' holds infinity after the edit; .* lower the strength"),
        ):
            write_file(path, {"w": (bad if axis else bad.T).to(dtype)})
            with small_blocks(), pytest.raises(CheckpointError, match=expected):
                edited(plan, Checkpoint.open(path.parent), tmp_path / "edited")


def test_a_hub_cache_is_edited_through_its_links(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--org--tiny"
    blobs, linked = repository / "blobs", repository / "snapshots" / "0123abc"
    blobs.mkdir(parents=True)
    linked.mkdir(parents=True)
    for number, path in enumerate(sorted(TINY.iterdir())):
        (blobs / f"{number:040x}").write_bytes(path.read_bytes())
        (linked / path.name).symlink_to(Path("..", "..", "blobs", f"{number:040x}"))
    before = snapshot(blobs)
    width = Checkpoint.open(TINY).entry("model.norm.weight").shape[0]
    directions = tmp_path / "directions.safetensors"
    Directions(torch.randn(1, 5, width), (-1,), "mean-difference").save(directions, -1)
    for source, out in ((TINY, "plain"), (linked, "cached")):
        apply(Options(str(source), tmp_path / out, device="cpu", layer=4), directions, None)
    assert not [path for path in (tmp_path / "cached").rglob("*") if path.is_symlink()]
    same = ("model.safetensors", "config.json", "tokenizer.json")
    assert all((tmp_path / "cached" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes() for name in same)
    assert snapshot(blobs) == before
    assert all(path.is_symlink() for path in linked.iterdir())
    assert verify(str(linked), tmp_path / "cached", Options(str(linked), Path(), device="cpu")).holds


def test_nothing_is_said_anew_where_every_format_is_kept(tmp_path: Path) -> None:
    source = Checkpoint.open(write_checkpoint(tmp_path / "source", {"w": torch.randn(WIDTH, 5)}))
    plan = plan_of(edit_of("w", 0))
    assert changed_texts(plan, source) == {}
    written = edited(plan, source, tmp_path / "edited")
    assert (written.folder / "config.json").read_bytes() == (source.folder / "config.json").read_bytes()
