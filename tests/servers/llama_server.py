"""The real llama.cpp server on this machine, with the bundled tiny chat model as its GGUF file.

    with serving(tiny_gguf(folder)) as server:
        server.url                       # http://127.0.0.1:PORT
        server.stop()                    # from here on nothing listens

The server runs in a process of its own (this file, as a program), which ends with its standard input.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

TINY_CHAT = Path(str(resources.files("abliterate") / "data" / "tiny-chat"))
NAME = "tiny-chat"
"""The name under which the model is served."""

CONTEXT = 4096
"""The server caps a conversation at what the file says; 256, which the model was trained with, has no room for a judge."""

MARK = "listening at "


@dataclass(frozen=True)
class LlamaServer:
    url: str
    process: subprocess.Popen[str]

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        pipe(self.process.stdin).close()
        pipe(self.process.stdout).close()


@contextmanager
def serving(model: Path, *, context: int = 4096, slots: int = 4, api_key: str = "") -> Iterator[LlamaServer]:
    """Serve a GGUF file on loopback: `context` tokens for each of `slots` requests at once."""
    settings = json.dumps({"model": str(model), "context": context, "slots": slots, "api_key": api_key})
    command = [sys.executable, __file__, settings]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    url = next((line.removeprefix(MARK).strip() for line in pipe(process.stdout) if line.startswith(MARK)), "")
    server = LlamaServer(url, process)
    try:
        assert url, "the llama.cpp server did not start"
        yield server
    finally:
        server.stop()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def tiny_gguf(folder: Path) -> Path:
    """Write the tiny chat model as GGUF, in float32; rotary rows in the order that llama.cpp expects."""
    import gguf
    from safetensors.torch import load_file

    config = json.loads((TINY_CHAT / "config.json").read_text())
    path = folder / "tiny-chat.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(NAME)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    writer.add_rope_dimension_count(config["head_dim"])
    writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    add_tokenizer(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(TINY_CHAT / "model.safetensors").items():
        values = tensor.float()
        if "q_proj" in name or "k_proj" in name:
            halves = values.reshape(-1, 2, config["head_dim"] // 2, values.shape[1])
            values = halves.swapaxes(1, 2).reshape(values.shape)
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), values.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def add_tokenizer(writer: object) -> None:
    """The byte-level BPE of the tiny chat model and its chat template."""
    import gguf

    assert isinstance(writer, gguf.GGUFWriter)
    tokenizer = json.loads((TINY_CHAT / "tokenizer.json").read_text())
    tokens = sorted(tokenizer["model"]["vocab"], key=tokenizer["model"]["vocab"].get)
    special = {token["content"] for token in tokenizer["added_tokens"]}
    kinds = [gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["model"]["merges"]])
    writer.add_pad_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(False)  # the template writes it
    writer.add_chat_template((TINY_CHAT / "chat_template.jinja").read_text())


def main(settings: dict[str, object]) -> None:
    """Serve until standard input ends."""
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["model"]
    parameters.model_alias = {NAME}
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_parallel = settings["slots"]
    parameters.n_ctx = settings["context"] * settings["slots"]
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.n_gpu_layers = 0
    parameters.warmup = False
    parameters.use_jinja = True
    if settings["api_key"]:
        parameters.api_keys = [settings["api_key"]]
    server = xllamacpp.Server(parameters)
    sys.stdout.write(f"{MARK}{server.listening_address}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
