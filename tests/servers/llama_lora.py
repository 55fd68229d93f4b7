"""The real llama.cpp with an adapter or a control vector: greedy replies and first logits of a GGUF file.

    answers = ask(model, [[1, 5, 7]], tokens=8, adapter=(path, 1.0))
    answers[0].reply                     # token ids
    answers[0].logits                    # float32 [vocab], of the first reply token

    chat_served(model, ["Name three colours."], path, [0.0, 1.0])     # by its server, with its chat template

The wheel's own interface has no control vectors, so its library is called through the C interface that it exports, and
the files are read by the functions that read those of `--lora-scaled` and `--control-vector-scaled`. The library ends the process when it
does not like a graph; so it runs in one of its own (this file, as a program), and `ask` raises LlamaFailed.
"""

from __future__ import annotations

import ctypes
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Scaled = tuple[Path, float]

LOAD_CONTROL_VECTOR = "_Z26common_control_vector_loadRKSt6vectorI31common_control_vector_load_infoSaIS0_EE"

OLD_ABI = "_Z22common_download_removeRKSs"
"""A function that is called so only where strings have the layout of the old ABI."""


class LlamaFailed(Exception):
    """The library refused a file or ended the process; the message is the end of what it wrote."""


@dataclass(frozen=True)
class LlamaAnswer:
    reply: list[int]
    logits: npt.NDArray[np.float32]


def ask(
    model: Path,
    prompts: Sequence[Sequence[int]],
    *,
    tokens: int = 1,
    stop: Sequence[int] = (),
    adapter: Scaled | None = None,
    control: Scaled | None = None,
) -> list[LlamaAnswer]:
    """Answer prompts of token ids greedily; `stop` ids end a reply and are not part of it."""
    settings = {
        "model": str(model),
        "prompts": [list(map(int, prompt)) for prompt in prompts],
        "tokens": tokens,
        "stop": list(stop),
        "adapter": adapter and [str(adapter[0]), adapter[1]],
        "control": control and [str(control[0]), control[1]],
    }
    answers = in_a_process(settings)
    return [LlamaAnswer(one["reply"], np.asarray(one["logits"], dtype=np.float32)) for one in answers]


def chat_served(model: Path, prompts: Sequence[str], adapter: Path, scales: Sequence[float]) -> list[list[str]]:
    """Return the greedy replies of a server that was started with the adapter, for each scale that requests ask for."""
    settings = {"model": str(model), "adapter": str(adapter), "chats": list(prompts), "scales": list(scales)}
    replies: list[list[str]] = in_a_process(settings)
    return replies


def in_a_process(settings: dict[str, Any]) -> Any:
    quiet = {**os.environ, "GGML_NO_BACKTRACE": "1"}
    command = [sys.executable, __file__]
    done = subprocess.run(command, input=json.dumps(settings), capture_output=True, text=True, env=quiet)
    if done.returncode:
        raise LlamaFailed(done.stderr[-3000:])
    return json.loads(done.stdout.splitlines()[-1])


class Opaque(ctypes.Structure):
    """Parameters that are only handed on, with room for what later versions add: such structures go by the stack."""

    _fields_ = [("bytes", ctypes.c_uint8 * 1024)]


class Batch(ctypes.Structure):
    _fields_ = [("bytes", ctypes.c_uint8 * 56)]


class LoadInfo(ctypes.Structure):
    """`{float strength; std::string fname}`: a string begins with the address of its text, in either ABI of libstdc++."""

    _fields_ = [("strength", ctypes.c_float), ("text", ctypes.c_void_p), ("length", ctypes.c_size_t * 3)]


class Vector(ctypes.Structure):
    _fields_ = [("begin", ctypes.c_void_p), ("end", ctypes.c_void_p), ("room", ctypes.c_void_p)]


class ControlData(ctypes.Structure):
    _fields_ = [("width", ctypes.c_int), ("data", Vector)]


def library() -> ctypes.CDLL:
    spec = find_spec("xllamacpp")
    assert spec is not None
    assert spec.origin is not None
    found = ctypes.CDLL(str(next(Path(spec.origin).parent.glob("xllamacpp*.so"))))
    pointer, number = ctypes.c_void_p, ctypes.c_int32
    signatures: dict[str, tuple[object, list[object]]] = {
        "llama_backend_init": (None, []),
        "llama_model_default_params": (Opaque, []),
        "llama_context_default_params": (Opaque, []),
        "llama_model_load_from_file": (pointer, [ctypes.c_char_p, Opaque]),
        "llama_init_from_model": (pointer, [pointer, Opaque]),
        "llama_set_n_threads": (None, [pointer, number, number]),
        "llama_model_get_vocab": (pointer, [pointer]),
        "llama_vocab_n_tokens": (number, [pointer]),
        "llama_adapter_lora_init": (pointer, [pointer, ctypes.c_char_p]),
        "llama_set_adapters_lora": (number, [pointer, pointer, ctypes.c_size_t, pointer]),
        "llama_set_adapter_cvec": (number, [pointer, pointer, ctypes.c_size_t, number, number, number]),
        LOAD_CONTROL_VECTOR: (ControlData, [pointer]),
        "llama_model_n_layer": (number, [pointer]),
        "llama_batch_get_one": (Batch, [pointer, number]),
        "llama_decode": (number, [pointer, Batch]),
        "llama_get_logits_ith": (ctypes.POINTER(ctypes.c_float), [pointer, number]),
        "llama_get_memory": (pointer, [pointer]),
        "llama_memory_clear": (None, [pointer, ctypes.c_bool]),
    }
    for name, (result, arguments) in signatures.items():
        getattr(found, name).restype = result
        getattr(found, name).argtypes = arguments
    return found


def model_gguf(folder: Path, architecture: str, path: Path, own_output: bool = False) -> Path:
    """Write a small checkpoint as GGUF in float32, without a vocabulary; `own_output` stores a tied head by itself."""
    import gguf
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text())
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_head_count_kv(config["num_key_value_heads"])
    for add in (writer.add_key_length, writer.add_value_length, writer.add_rope_dimension_count):
        add(config["head_dim"])
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config["vocab_size"])
    if config.get("sliding_window"):
        writer.add_sliding_window(config["sliding_window"])
    if "num_experts" in config:
        writer.add_expert_count(config["num_experts"])
        writer.add_expert_used_count(config["num_experts_per_tok"])
        writer.add_expert_feed_forward_length(config["moe_intermediate_size"])
        writer.add_expert_shared_feed_forward_length(config["shared_expert_intermediate_size"])
    kind = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(kind, config["num_hidden_layers"])
    experts: dict[str, list[npt.NDArray[np.float32]]] = {}
    for name, tensor in sorted(load_file(folder / "model.safetensors").items()):  # single digits: experts in order
        values = tensor.float().numpy()
        if architecture == "gemma3" and "norm" in name:
            values = values + 1
        if ".experts." in name:
            experts.setdefault(re.sub(r"experts\.\d\.", "experts.", name), []).append(values)
            continue
        target = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(target, values)
        if own_output and target == "token_embd.weight":
            writer.add_tensor("output.weight", values)
    for name, stacked in experts.items():
        writer.add_tensor(names.get_name(name, try_suffixes=(".weight",)), np.stack(stacked))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def put_adapter(llama: ctypes.CDLL, model: int, context: int, path: str, scale: float) -> None:
    adapter = llama.llama_adapter_lora_init(model, path.encode())
    assert adapter, "the adapter was refused"
    adapters, scales = (ctypes.c_void_p * 1)(adapter), (ctypes.c_float * 1)(scale)
    assert llama.llama_set_adapters_lora(context, adapters, 1, scales) == 0


def put_control(llama: ctypes.CDLL, model: int, context: int, path: str, scale: float) -> None:
    name = path.encode()
    # In the old ABI, length, capacity and a count of -1 (not shared) lie before the text; in the new one they follow its address.
    text = ctypes.create_string_buffer(struct.pack("qqq", len(name), len(name), -1) + name)
    info = LoadInfo(scale, ctypes.addressof(text) + 24, (len(name), len(name), 0))
    size = 16 if hasattr(llama, OLD_ABI) else ctypes.sizeof(info)
    begin = ctypes.addressof(info)
    data = getattr(llama, LOAD_CONTROL_VECTOR)(ctypes.byref(Vector(begin, begin + size, begin + size)))
    assert data.width > 0, "the control vector was refused"
    count = (data.data.end - data.data.begin) // 4
    layers = llama.llama_model_n_layer(model)
    # The range is that of a server that is given none.
    assert llama.llama_set_adapter_cvec(context, data.data.begin, count, data.width, 1, layers) == 0


def answers_to(settings: dict[str, Any]) -> list[dict[str, Any]]:
    llama = library()
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(settings["model"].encode(), llama.llama_model_default_params())
    context = llama.llama_init_from_model(model, llama.llama_context_default_params())
    llama.llama_set_n_threads(context, 1, 1)
    if settings["adapter"]:
        put_adapter(llama, model, context, *settings["adapter"])
    if settings["control"]:
        put_control(llama, model, context, *settings["control"])
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    answers = []
    for prompt in settings["prompts"]:
        llama.llama_memory_clear(llama.llama_get_memory(context), True)
        reply: list[int] = []
        first, given = None, prompt
        while len(reply) < settings["tokens"]:
            ids = (ctypes.c_int32 * len(given))(*given)
            assert llama.llama_decode(context, llama.llama_batch_get_one(ids, len(given))) == 0
            logits = np.ctypeslib.as_array(llama.llama_get_logits_ith(context, -1), (vocabulary,))
            first = logits.tolist() if first is None else first
            given = [int(logits.argmax())]
            if given[0] in settings["stop"]:
                break
            reply += given
        answers.append({"reply": reply, "logits": first})
    return answers


def chats_with(settings: dict[str, Any]) -> list[list[str]]:
    import xllamacpp

    parameters = xllamacpp.CommonParams()
    parameters.model.path = settings["model"]
    parameters.lora_adapters = [xllamacpp.CommonAdapterLoraInfo(settings["adapter"], 1.0)]
    parameters.hostnames = ["127.0.0.1"]
    parameters.port = 0
    parameters.n_ctx = 4096
    parameters.cpuparams.n_threads = 1
    parameters.cpuparams_batch.n_threads = 1
    parameters.n_gpu_layers = 0
    parameters.warmup = False
    parameters.use_jinja = True
    server = xllamacpp.Server(parameters)

    def reply(prompt: str, scale: float) -> str:
        body = {
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": 24,
            "lora": [{"id": 0, "scale": scale}],
        }
        return str(server.handle_chat_completions(body)["choices"][0]["message"]["content"])

    return [[reply(prompt, scale) for prompt in settings["chats"]] for scale in settings["scales"]]


def main() -> None:
    settings = json.loads(sys.stdin.read())
    found = chats_with(settings) if "chats" in settings else answers_to(settings)
    sys.stdout.write("\n" + json.dumps(found) + "\n")
    sys.stdout.flush()
    os._exit(0)  # a server's threads would keep the process


if __name__ == "__main__":
    main()
