"""Times the checkpoint engine against the least that any tool must do: copy the files, and read them once.

    python benchmarks/edit.py [--size-gb 8] [--folder DIR] [--rounds 3] [--kind dense ...]

Makes checkpoints with the shapes of real models and random weights, and measures in turn, each in a process of its
own, in an order that is reversed from round to round:

    cp           `cp -r` of the folder, then `sync` of every file
    sha256       a read of every file through hashlib.sha256
    apply        `write_edited` at strength 1 on every writer, between `Staging.open` and `publish` (which sync)
    verify       `verify_tensors` of what apply wrote

Just before each, memory as large as the copy is written and freed, and every input is read, so that both
are there: "from disk" is what the kernel fetched all the same.
Memory is the largest RssAnon (page cache and file mappings aside) above that of the same process with torch imported.
`transformers` is the usual script, once: load in bfloat16, subtract in place, save_pretrained, then sync.
Needs about twice --size-gb on the disk; all of it is removed at the end.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

GB = 1e9
SHARD_GB = 1.6
Shape = tuple[int, ...]
Results = dict[str, list[dict[str, float]]]

AXES = {
    "embed_tokens.weight": 1,
    "o_proj.weight": 0,
    "down_proj.weight": 0,
    "experts.down_proj": 2,
    "experts.down_proj_bias": 1,
}
"""End of a writer's name -> the axis of its residual stream."""

KINDS = {
    "dense": "Llama-3-8B: hidden 4096, intermediate 14336, untied vocabulary of 128256",
    "experts": "Qwen3-30B-A3B: hidden 2048, 128 experts of 768 a layer, a tensor each",
    "fused": "gpt-oss like: hidden 2880, 128 experts of 720 a layer, fused into one tensor, with biases",
}
LLAMA = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096, "intermediate_size": 14336,
    "num_attention_heads": 32, "num_key_value_heads": 8, "tie_word_embeddings": False, "dtype": "bfloat16",
}  # fmt: skip
"""The config of the dense kind, which transformers loads; sizes are added."""

SHARES = {"dense": 1.0, "experts": 0.5, "fused": 0.5}
"""Size of each kind as a share of --size-gb."""


# --- the checkpoints -------------------------------------------------------------------------------------------------


def attention(hidden: int, queries: int, keys: int) -> dict[str, Shape]:
    projections = {"q_proj": (queries, hidden), "k_proj": (keys, hidden), "v_proj": (keys, hidden)}
    shapes: dict[str, Shape] = {f"self_attn.{name}.weight": shape for name, shape in projections.items()}
    norms: dict[str, Shape] = {"input_layernorm.weight": (hidden,), "post_attention_layernorm.weight": (hidden,)}
    return shapes | {"self_attn.o_proj.weight": (hidden, queries)} | norms


def layer(kind: str) -> dict[str, Shape]:
    if kind == "dense":
        mlp: dict[str, Shape] = {f"mlp.{name}_proj.weight": (14336, 4096) for name in ("gate", "up")}
        return attention(4096, 4096, 1024) | mlp | {"mlp.down_proj.weight": (4096, 14336)}
    if kind == "experts":
        experts: dict[str, Shape] = {}
        for number in range(128):
            experts |= {f"mlp.experts.{number}.{name}_proj.weight": (768, 2048) for name in ("gate", "up")}
            experts[f"mlp.experts.{number}.down_proj.weight"] = (2048, 768)
        return attention(2048, 4096, 512) | experts | {"mlp.gate.weight": (128, 2048)}
    fused: dict[str, Shape] = {
        "mlp.experts.gate_up_proj": (128, 2880, 1440),
        "mlp.experts.gate_up_proj_bias": (128, 1440),
        "mlp.experts.down_proj": (128, 720, 2880),
        "mlp.experts.down_proj_bias": (128, 2880),
    }
    return attention(2880, 4096, 512) | fused | {"mlp.router.weight": (128, 2880)}


def size(shape: Shape) -> int:
    return 2 * math.prod(shape)


def tensors(kind: str, size_gb: float) -> dict[str, Shape]:
    """Name the tensors of as many layers as fit, one at least."""
    vocabulary: Shape = {"dense": (128256, 4096), "experts": (151936, 2048), "fused": (201088, 2880)}[kind]
    if size_gb < 4:  # a small run should still hold layers, not a vocabulary alone
        vocabulary = (vocabulary[0] // 8, vocabulary[1])
    ends: dict[str, Shape] = {"model.norm.weight": (vocabulary[1],), "lm_head.weight": vocabulary}
    room = size_gb * GB - 2 * size(vocabulary)
    depth = max(1, int(room // sum(map(size, layer(kind).values()))))
    body = {f"model.layers.{n}.{name}": shape for n in range(depth) for name, shape in layer(kind).items()}
    return {"model.embed_tokens.weight": vocabulary, **body, **ends}


def make(folder: Path, kind: str, size_gb: float) -> None:
    """Write a checkpoint: weights are one block of random numbers, again and again from another place in it."""
    import torch

    block = bytes((torch.randn(40_000_003) * 0.02).bfloat16().view(torch.uint8).numpy())
    folder.mkdir(parents=True)
    shards: list[dict[str, Shape]] = [{}]
    for name, shape in tensors(kind, size_gb).items():
        if shards[-1] and sum(map(size, shards[-1].values())) + size(shape) > SHARD_GB * GB:
            shards.append({})
        shards[-1][name] = shape
    weight_map: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        weight_map |= dict.fromkeys(shard, name)
        header, end = {}, 0
        for key, shape in shard.items():
            header[key] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size(shape)]}
            end += size(shape)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        with (folder / name).open("wb", buffering=0) as file:
            file.write(len(text).to_bytes(8, "little") + text)
            while end:
                end -= file.write(memoryview(block)[:end])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    depth = len({name.split(".")[2] for name in weight_map if name.startswith("model.layers.")})
    config = LLAMA | {"vocab_size": tensors(kind, size_gb)["lm_head.weight"][0], "num_hidden_layers": depth}
    (folder / "config.json").write_text(json.dumps(config))
    for path in folder.iterdir():
        sync(path)


def axis_of(name: str) -> int | None:
    return next((axis for end, axis in AXES.items() if name.endswith(end)), None)


# --- what is measured, each in a process of its own ------------------------------------------------------------------


def copy(source: Path, target: Path) -> Callable[[], object]:
    def run() -> None:
        subprocess.run(["cp", "-r", source, target], check=True)
        subprocess.run(["sync", *sorted(target.iterdir()), target], check=True)

    return run


def digest(source: Path, target: Path) -> Callable[[], object]:
    def run() -> None:
        buffer = bytearray(1 << 20)
        for path in sorted(source.iterdir()):
            one = hashlib.sha256()
            with path.open("rb", buffering=0) as file:
                while count := file.readinto(buffer):
                    one.update(memoryview(buffer)[:count])
            one.hexdigest()

    return run


def plan_of(source: Path) -> tuple[Any, Any]:
    import torch

    from abliterate.checkpoints.checkpoint import Checkpoint
    from abliterate.edits.plan import EditPlan
    from abliterate.edits.tensor_edits import TensorEdit
    from abliterate.interventions.recipe import Recipe

    checkpoint = Checkpoint.open(source)
    widths = {checkpoint.tensors["model.embed_tokens.weight"].shape[1]}
    direction = torch.nn.functional.normalize(
        torch.randn(1, *widths, generator=torch.Generator().manual_seed(0)), dim=-1
    )
    edits = {}
    for name, entry in checkpoint.tensors.items():
        axis = axis_of(name)
        if axis is not None:
            assert entry.shape[axis] in widths, name
            edits[name] = TensorEdit(name, "mlp", 0, axis, 1.0, direction)
    return checkpoint, EditPlan(edits, Recipe.uniform(), direction)


def apply(source: Path, target: Path) -> Callable[[], object]:
    from abliterate.edits.write import write_edited
    from abliterate.storage.staging import Staging

    checkpoint, plan = plan_of(source)

    def run() -> None:
        with Staging.open(target, plan.digest, needed_bytes=checkpoint.total_bytes) as staging:
            write_edited(plan, checkpoint, staging)
            staging.publish()

    return run


def verify(source: Path, target: Path) -> Callable[[], object]:
    from abliterate.checkpoints.checkpoint import Checkpoint
    from abliterate.proofs.tensors import verify_tensors

    checkpoint, plan = plan_of(source)
    edited = Checkpoint.open(target)
    return lambda: verify_tensors(plan, checkpoint, edited)


def usual(source: Path, target: Path) -> Callable[[], object]:
    """Edit as a script would: load, subtract in place, save."""
    import torch
    from transformers import AutoModelForCausalLM

    _, plan = plan_of(source)

    def run() -> None:
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.bfloat16)
        direction = plan.basis[0]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in plan.edits:
                    weight = parameter.float()
                    if plan.edits[name].axis == 0:
                        weight -= torch.outer(direction, direction @ weight)
                    else:
                        weight -= torch.outer(weight @ direction, direction)
                    parameter.copy_(weight)
        model.save_pretrained(target, max_shard_size="2GB")
        for path in target.iterdir():
            sync(path)

    return run


JOBS = {"cp": copy, "sha256": digest, "apply": apply, "verify": verify, "transformers": usual}


def job(name: str, source: Path, target: Path) -> dict[str, float]:
    """Run one job in this process; return its seconds, bytes from and to the disk, and memory above torch's."""
    import torch

    torch.ones(1 << 20).sum()
    begin = resident()
    run = JOBS[name](source, target)
    with sampled_memory() as most:
        read = fetched()
        start = time.perf_counter()
        run()
        seconds = time.perf_counter() - start
    return {"seconds": seconds, "memory": max(most) - begin, "read": fetched() - read}


@contextmanager
def sampled_memory(every: float = 0.005) -> Iterator[list[int]]:
    most, stop = [resident()], threading.Event()

    def sample() -> None:
        while not stop.wait(every):
            most[0] = max(most[0], resident())

    thread = threading.Thread(target=sample)
    thread.start()
    yield most
    stop.set()
    thread.join()


def resident() -> int:
    with open("/proc/self/status", "rb") as file:  # noqa: PTH123 - sampled often
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(b"RssAnon"))


def fetched() -> int:
    """Bytes that this process, and what it waited for, had fetched from the disk."""
    fields = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(fields["read_bytes"])


# --- files ------------------------------------------------------------------------------------------------------------


def sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def warm(*folders: Path) -> None:
    """Read all files, so that every job finds them in the page cache."""
    buffer = bytearray(1 << 22)
    for path in (path for folder in folders if folder.exists() for path in folder.iterdir()):
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def make_memory_real(path: Path, count: int) -> None:
    """Fill as much of the page cache as a copy takes, and free it: a virtual machine gives idle memory back to its
    host, and whoever writes first after a pause would pay for all of it, several seconds."""
    block = bytes(1 << 24)
    with path.open("wb", buffering=0) as file:
        for _ in range(0, count, len(block)):
            file.write(block)
    path.unlink()


# --- the run ---------------------------------------------------------------------------------------------------------


def measure(name: str, source: Path, target: Path) -> dict[str, float]:
    if name != "verify":
        make_memory_real(target.with_name("memory"), sum(path.stat().st_size for path in source.iterdir()))
    warm(source, *([target] if name == "verify" else []))
    command = [sys.executable, __file__, "--job", name, str(source), str(target)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    print(f"  {name:12} {result['seconds']:7.2f} s", file=sys.stderr)
    return result


def rounds_of(rounds: int, source: Path, work: Path) -> Results:
    """Measure everything; round 0 is not counted."""
    found: Results = {name: [] for name in ("cp", "sha256", "apply", "verify")}
    for number in range(rounds + 1):
        groups = [["cp"], ["sha256"], ["apply", "verify"]]
        for group in groups if number % 2 else groups[::-1]:
            for name in group:
                result = measure(name, source, work / "target")
                if number:
                    found[name].append(result)
            shutil.rmtree(work / "target", ignore_errors=True)
    return found


def report(kind: str, source: Path, found: Results, note: str = "") -> None:
    total = sum(path.stat().st_size for path in source.iterdir())
    title = f"{kind} ({KINDS[kind]}), {total / GB:.2f} GB of which {edited_bytes(source) / GB:.2f} GB edited"
    table = Table(title=f"{title}{note}")
    for column in ("", "median s", "all s", "from disk", "memory above torch"):
        table.add_column(column, justify="right" if column else "left", no_wrap=True)
    for name, results in found.items():
        seconds = [one["seconds"] for one in results]
        table.add_row(
            name,
            f"{statistics.median(seconds):.2f}",
            " ".join(f"{value:.2f}" for value in seconds),
            f"{statistics.median(one['read'] for one in results) / GB:.2f} GB",
            f"{max(one['memory'] for one in results) / 1e6:.0f} MB",
        )
    console = Console(width=160)
    console.print(table)
    if "verify" in found:
        for line in ratios(found):
            console.print(line)


def edited_bytes(source: Path) -> int:
    from abliterate.checkpoints.checkpoint import Checkpoint

    return sum(entry.nbytes for name, entry in Checkpoint.open(source).tensors.items() if axis_of(name) is not None)


def ratios(found: Results) -> Iterator[str]:
    by_round = {name: [one["seconds"] for one in results] for name, results in found.items()}
    medians = {name: statistics.median(seconds) for name, seconds in by_round.items()}
    for label, above, below, target in (
        ("apply / cp", ("apply",), ("cp",), 1.2),
        ("(apply + verify) / (cp + sha256)", ("apply", "verify"), ("cp", "sha256"), 1.5),
    ):
        ratio = sum(medians[name] for name in above) / sum(medians[name] for name in below)
        each = [
            sum(by_round[name][n] for name in above) / sum(by_round[name][n] for name in below)
            for n in range(len(by_round["cp"]))
        ]
        verdict = "holds" if ratio <= target else "is missed"
        yield f"{label}: {ratio:.2f} of the medians, {min(each):.2f} to {max(each):.2f} by round; at most {target} {verdict}"


def compare_transformers(work: Path, size_gb: float) -> None:
    """Measure the usual way once, on a smaller checkpoint where memory does not hold the whole one twice."""
    free = int(next(line.split()[1] for line in Path("/proc/meminfo").read_text().splitlines() if "Available" in line))
    smaller = min(size_gb, free * 1024 / GB / 2.5)
    make(work / "source", "dense", smaller)
    found: Results = {}
    for name in ("transformers", "apply"):
        found[name] = [measure(name, work / "source", work / "target")]
        shutil.rmtree(work / "target")
    note = "" if smaller == size_gb else f"; smaller than {size_gb:g} GB: {free / 1e6:.0f} GB of memory are free"
    report("dense", work / "source", found, note)
    shutil.rmtree(work / "source")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size-gb", type=float, default=8)
    parser.add_argument("--folder", type=Path, help="where to work; by default the temporary folder of the system")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kind", choices=[*KINDS, "transformers"], nargs="+", default=[*KINDS, "transformers"])
    parser.add_argument("--job", nargs=3, metavar=("NAME", "SOURCE", "TARGET"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        name, source, target = options.job
        print(json.dumps(job(name, Path(source), Path(target))))
        return
    with tempfile.TemporaryDirectory(prefix="abliterate-benchmark-", dir=options.folder) as folder:
        work = Path(folder)
        for kind in options.kind:
            if kind == "transformers":
                compare_transformers(work, options.size_gb)
                continue
            print(f"{kind}: making it", file=sys.stderr)
            make(work / "source", kind, options.size_gb * SHARES[kind])
            found = rounds_of(options.rounds, work / "source", work)
            report(kind, work / "source", found)
            shutil.rmtree(work / "source")


if __name__ == "__main__":
    main()
