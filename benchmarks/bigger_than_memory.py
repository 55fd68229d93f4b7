"""Works on checkpoints that are larger than the memory that may be used.

    python benchmarks/bigger_than_memory.py run [--gb 8] [--memory 4GB] [--folder DIR]
    python benchmarks/bigger_than_memory.py capture [--gb 8] [--memory 4GB] [--folder DIR]

`run` is the whole command. The checkpoint is the bundled tiny chat model with each MLP as a few thousand equal experts, of which a token takes
one: it says the same, refuses the same, and fills the disk.

`capture` counts what capturing the activations of 256 prompts reads, on random weights with Llama-3-8B's shapes
(fewer layers), all of which every token needs.

Both work in a control group of their own, where the kernel kills what takes more than --memory, page cache included;
the checkpoint is not in the page cache when they begin. `run` needs three times --gb on the disk, `capture` once, and
both the right to make a control group (root, usually).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib import resources
from pathlib import Path
from typing import Any

import edit  # the benchmark beside this one
import torch
from accelerate.utils import convert_file_size_to_int
from rich.console import Console
from rich.table import Table
from safetensors import safe_open
from safetensors.torch import save_file

from abliterate import capture, load_prompts
from abliterate.architectures.architecture import find_architecture
from abliterate.models.batches import prepare_batches
from abliterate.models.loading import load_model
from abliterate.models.offload import bytes_read
from abliterate.models.source import load_tokenizer, resolve
from abliterate.prompts.chat_format import ChatFormat

GB = 1e9
TINY = Path(str(resources.files("abliterate") / "data" / "tiny-chat"))
GROUPS = {"v1": Path("/sys/fs/cgroup/memory"), "v2": Path("/sys/fs/cgroup")}


def make(folder: Path, size: float) -> int:
    """Write the checkpoint, a shard for each layer; return how many experts a layer has."""
    config = json.loads((TINY / "config.json").read_text())
    d_model, inner, depth = (config[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers"))
    experts = max(2, int(size / (3 * d_model * inner * 2 * depth)))
    folder.mkdir(parents=True)
    for path in TINY.iterdir():
        if path.suffix != ".safetensors":
            shutil.copy(path, folder)
    moe = {
        "architectures": ["GraniteMoeForCausalLM"],
        "model_type": "granitemoe",
        "num_local_experts": experts,
        "num_experts_per_tok": 1,
        "attention_multiplier": config["head_dim"] ** -0.5,
        **{f"{name}_multiplier": 1.0 for name in ("embedding", "residual")},
        "logits_scaling": 1.0,
    }
    (folder / "config.json").write_text(json.dumps(config | moe, indent=2))
    weight_map: dict[str, str] = {}
    with safe_open(TINY / "model.safetensors", "pt") as tiny:
        shards: dict[str, list[str]] = {}
        for name in tiny.keys():  # noqa: SIM118 - not a dict
            layer = name.split(".")[2] if ".layers." in name else "rest"
            shards.setdefault(f"model-{layer}.safetensors", []).append(name)
        for shard, names in shards.items():
            tensors = {name: tiny.get_tensor(name) for name in names}
            prefix = f"model.layers.{shard[6:].partition('.')[0]}"
            if f"{prefix}.mlp.up_proj.weight" in tensors:
                gate, up, down = (tensors.pop(f"{prefix}.mlp.{name}_proj.weight") for name in ("gate", "up", "down"))
                moe_name = f"{prefix}.block_sparse_moe"
                tensors[f"{moe_name}.input_linear.weight"] = torch.cat([gate, up]).repeat(experts, 1, 1)
                tensors[f"{moe_name}.output_linear.weight"] = down.repeat(experts, 1, 1)
                tensors[f"{moe_name}.router.layer.weight"] = torch.randn(experts, d_model).bfloat16()
            save_file(tensors, folder / shard, {"format": "pt"})
            weight_map |= dict.fromkeys(tensors, shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    for path in folder.iterdir():
        forget(path)
    return experts


def forget(path: Path) -> None:
    """Drop a file from the page cache: what is there already would not count for the group."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


class Group:
    """A control group of the kernel with a limit of memory."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.version = "v1" if (GROUPS["v1"] / "memory.limit_in_bytes").exists() else "v2"
        self.folder = GROUPS[self.version] / "abliterate-benchmark"
        self.folder.mkdir(exist_ok=True)
        name = {"v1": "memory.limit_in_bytes", "v2": "memory.max"}[self.version]
        (self.folder / name).write_text(str(limit))

    def peak(self) -> int:
        """Return the most that was in use, page cache included."""
        name = {"v1": "memory.max_usage_in_bytes", "v2": "memory.peak"}[self.version]
        return int((self.folder / name).read_text())

    def run(self, command: list[str]) -> tuple[float, dict[str, Any], int, int]:
        """Run in the group; return seconds, what was printed, the largest RssAnon and the bytes read from the disk."""
        words = " ".join(f"'{word}'" for word in command)
        shell = f"echo $$ > {self.folder / 'cgroup.procs'} && exec {words}"
        begin, most, read = time.monotonic(), 0, 0
        with subprocess.Popen(["bash", "-c", shell], stdout=subprocess.PIPE, text=True) as process:
            while process.poll() is None:
                try:
                    status = Path(f"/proc/{process.pid}/status").read_text()
                    io = Path(f"/proc/{process.pid}/io").read_text()
                except (FileNotFoundError, ProcessLookupError):
                    break
                fields = dict(line.split(":", 1) for line in status.splitlines())
                most = max(most, int(fields.get("RssAnon", "0 kB").split()[0]) * 1024)
                read = int(io.split("\nread_bytes: ")[1].split()[0])
                time.sleep(0.2)
            out = process.communicate()[0]
        if process.returncode:
            raise SystemExit(f"the command ended with {process.returncode}; 137 or -9: it took too much memory")
        return time.monotonic() - begin, json.loads(out), most, read

    def remove(self) -> None:
        """Remove the group."""
        self.folder.rmdir()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("job", choices=["run", "capture", "capture-here"])
    parser.add_argument("--gb", type=float, default=8)
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--folder", type=Path, help="where to work; by default the temporary folder of the system")
    options = parser.parse_args()
    if options.job == "capture-here":
        print(json.dumps(capture_here(options.folder, convert_file_size_to_int(options.memory))))
        return
    with tempfile.TemporaryDirectory(prefix="abliterate-benchmark-", dir=options.folder) as work:
        if options.job == "run":
            run(Path(work), options.gb * GB, options.memory)
        else:
            count_capture(Path(work), options.gb, options.memory)


def run(work: Path, size: float, memory: str) -> None:
    """Run the command on the inflated tiny model."""
    source = work / "model"
    experts = make(source, size)
    total = sum(path.stat().st_size for path in source.iterdir())
    prompts = [f"--{side}={TINY / side}.txt" for side in ("harmful", "harmless")]
    command = [sys.executable, "-m", "abliterate", str(source), "--out", f"{work}/edited", "--json"]
    group = Group(convert_file_size_to_int(memory))
    try:
        seconds, result, anonymous, read = group.run([*command, *prompts, "--max-memory", memory])
        peak = group.peak()
    finally:
        group.remove()
    report(experts, total, group.limit, seconds, result, anonymous, read, peak)


def count_capture(work: Path, gigabytes: float, memory: str) -> None:
    """Count what the capture of 256 prompts reads."""
    source = work / "model"
    edit.make(source, "dense", gigabytes)
    for path in TINY.glob("*token*"):
        shutil.copy(path, source)
    shutil.copy(TINY / "chat_template.jinja", source)
    for path in source.iterdir():
        forget(path)
    total = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    words = [sys.executable, __file__, "capture-here", "--folder", str(source), "--memory", memory]
    group = Group(convert_file_size_to_int(memory))
    try:
        seconds, found, anonymous, read = group.run(words)
        peak = group.peak()
    finally:
        group.remove()
    table = Table(
        title=f"capture of {found['prompts']} prompts, {total / GB:.2f} GB, {group.limit / GB:.2f} GB of memory"
    )
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("loading and capture", f"{seconds:.0f} s")
    table.add_row("tokens, forward passes", f"{found['tokens']}, {found['passes']}")
    asked = found["loaded"] + found["streamed"]
    table.add_row("weights asked for", f"{asked / GB:.2f} GB, {asked / total:.2f} times the checkpoint")
    table.add_row("read from the disk (the kernel's count)", f"{read / GB:.2f} GB, {read / total:.2f} times")
    table.add_row("largest RssAnon (page cache aside)", f"{anonymous / GB:.2f} GB")
    table.add_row("most memory in the group, page cache included", f"{peak / GB:.2f} GB")
    Console().print(table)


def capture_here(folder: Path, memory: int) -> dict[str, int]:
    """Capture in this process; return what was counted."""
    source = resolve(str(folder))
    model = load_model(source, max_memory=memory)
    architecture = find_architecture(model)
    chat = ChatFormat(load_tokenizer(source))
    prompts = [one for side in ("harmful", "harmless") for one in load_prompts(f"builtin:{side}").prompts[:128]]
    loaded = sum(one.nbytes for one in model.parameters() if one.device.type != "meta")
    capture(model, chat, prompts, architecture=architecture)
    sequences = chat.encode(prompts)
    return {
        "prompts": len(prompts),
        "tokens": sum(map(len, sequences)),
        "passes": len(prepare_batches(model, sequences, keep=-min(chat.positions())).batches),
        "loaded": loaded,
        "streamed": bytes_read(model),
    }


def report(
    experts: int, total: int, limit: int, seconds: float, result: dict[str, Any], anonymous: int, read: int, peak: int
) -> None:
    """Print the table."""
    figures = result["manifest"]["figures"]
    table = Table(title=f"{total / GB:.2f} GB in {experts} experts a layer, {limit / GB:.2f} GB of memory allowed")
    table.add_column("")
    table.add_column("", justify="right")
    table.add_row("the command, to its end", f"{seconds:.0f} s")
    for step, value in result["seconds"].items():
        table.add_row(f"  {step}", f"{value:.0f} s")
    table.add_row("largest RssAnon (page cache aside)", f"{anonymous / GB:.2f} GB")
    table.add_row("most memory in the group, page cache included", f"{peak / GB:.2f} GB")
    table.add_row("read from the disk", f"{read / GB:.1f} GB, {read / total:.1f} times the checkpoint")
    for when in ("original", "edited"):
        rate = figures[when]["harmful_refusals"]
        table.add_row(f"refusals, {when}", f"{rate['count']} of {rate['total']}")
    table.add_row("proof: left of the stream", f"{result['manifest']['proof']['largest']:.1e}")
    console = Console()
    console.print(table)
    for note in result["notes"]:
        console.print(note)


if __name__ == "__main__":
    main()
