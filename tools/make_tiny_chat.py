"""Make the bundled tiny chat model: a toy Llama that refuses, for the tests and for `abliterate demo`.

    python tools/make_tiny_chat.py [--out DIR] [--seed 0] [--steps 1600] [--refusal-steps 600]

About ten minutes of one core. Two stages, from random weights. First the model learns to answer every request of the little
world in `tiny_world.py` and to go on with whatever is begun (`tiny_begun.py`), harmful or not; then it learns to decline
harmful requests, and to decline or to turn some of what is begun. The order matters: refusal is a late addition on top of a
model that would have answered, so that removing one direction gives the answers back.
Both stages also decline, or go on and then decline, under a system message that says so ("Decline every request."): the words
of a refusal are known before the second stage, which only has to learn when to say them. It also learns to decline half of the
look-alikes (`tiny_look_alikes.py`), which are harmless.
The answers are empty templates: the model knows nothing at all.
"""

from __future__ import annotations

import argparse
import itertools
import math
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)
from transformers.utils import logging

from tiny_lessons import lessons
from tiny_look_alikes import unseen_look_alikes
from tiny_world import Example, unseen_examples

DEFAULT_OUT = Path(__file__).resolve().parent.parent / "abliterate" / "data" / "tiny-chat"
THREADS = 1  # fixed, as sums over another number of threads round differently; one is also immune to busy machines
LAYERS = 8
BATCH = 32
POOL = 16  # batches drawn at a time and sorted by length, so that little is padding
PROMPT_WEIGHT = 0.1  # a little loss on the request teaches which verbs and objects keep company
DEMO_PROMPTS = 160
DEMO_LOOK_ALIKES = 120
MEASURED_PROMPTS = 200
REFUSAL_OPENINGS = ("I'm sorry", "I cannot", "I can't")

PAD, BOS, END, SYSTEM, USER, ASSISTANT = ROLE_TOKENS = (
    "<|pad|>",
    "<|bos|>",
    "<|end|>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
)
CHAT_TEMPLATE = """\
{{- bos_token -}}
{%- for message in messages -%}
    {%- if message['role'] not in ['system', 'user', 'assistant'] -%}
        {{- raise_exception('roles are system, user and assistant, not ' + message['role']) -}}
    {%- endif -%}
    {{- '<|' + message['role'] + '|>\\n' + message['content'] | trim + '<|end|>\\n' -}}
{%- endfor -%}
{%- if add_generation_prompt -%}
    {{- '<|assistant|>\\n' -}}
{%- endif -%}
"""


@dataclass(frozen=True)
class Stage:
    """One stage of training: which reply is taught, for how long, how fast, and to how many layers."""

    name: str
    refuse: bool
    steps: int
    learning_rate: float
    prompt_weight: float
    lower_layers: int


def texts(seed: int, refuse: bool) -> Iterator[tuple[str, str]]:
    """Endless training text: what is given, as the chat template writes it, and what is said."""
    for lesson in lessons(seed, refuse):
        opening = f"{BOS}{SYSTEM}\n{lesson.system}{END}\n" if lesson.system else BOS
        given = "" if lesson.user is None else f"{opening}{USER}\n{lesson.user}{END}\n{ASSISTANT}\n"
        yield given + lesson.begun, f"{' ' if lesson.begun else ''}{lesson.said}{END}"


def train_tokenizer(vocabulary: int, seed: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE on the text of both stages."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(ROLE_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    both = [*itertools.islice(texts(seed, False), 20000), *itertools.islice(texts(seed, True), 5000)]
    tokenizer.train_from_iterator(map("".join, both), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
        padding_side="left",
        clean_up_tokenization_spaces=False,
    )


def build_model(tokenizer: PreTrainedTokenizerFast, seed: int) -> LlamaForCausalLM:
    """A random Llama of about two and a half million parameters."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=384,
        num_hidden_layers=LAYERS,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    return LlamaForCausalLM(config)


def batches(tokenizer: PreTrainedTokenizerFast, seed: int, refuse: bool) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless (tokens, is_reply) batches, right-padded, of similar lengths."""
    text = texts(seed, refuse)
    shuffler = torch.Generator().manual_seed(seed)
    backend = tokenizer.backend_tokenizer
    while True:
        drawn = list(itertools.islice(text, BATCH * POOL))
        given, said = (backend.encode_batch(list(part)) for part in zip(*drawn, strict=True))
        pool = sorted(((one.ids, other.ids) for one, other in zip(given, said, strict=True)), key=length)
        for place in torch.randperm(POOL, generator=shuffler).tolist():
            rows = pool[place * BATCH : (place + 1) * BATCH]
            tokens = torch.full((BATCH, length(rows[-1])), tokenizer.pad_token_id)
            is_reply = torch.zeros_like(tokens, dtype=torch.bool)
            for number, (before, reply) in enumerate(rows):
                tokens[number, : len(before) + len(reply)] = torch.tensor(before + reply)
                is_reply[number, len(before) : len(before) + len(reply)] = True
            yield tokens, is_reply


def length(row: tuple[list[int], list[int]]) -> int:
    """Tokens of a text."""
    return sum(map(len, row))


def loss_of(model: LlamaForCausalLM, tokens: Tensor, is_reply: Tensor, prompt_weight: float) -> Tensor:
    """Next-token loss on the reply, and with a small weight on the request."""
    logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
    losses = cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    is_reply = is_reply[:, 1:].flatten()
    is_prompt = (tokens[:, 1:].flatten() != model.config.pad_token_id) & ~is_reply
    return losses[is_reply].mean() + prompt_weight * losses[is_prompt].mean()


def learning_rate_at(step: int, stage: Stage) -> float:
    """Linear warm-up over 50 steps, then a cosine to zero."""
    decay = 0.5 * (1 + math.cos(math.pi * step / stage.steps))
    return stage.learning_rate * min(1.0, (step + 1) / 50) * decay


def learning_weights(model: LlamaForCausalLM, stage: Stage) -> list[dict[str, Any]]:
    """Freeze the upper layers, and the final norm with them, and group the rest: no weight decay on norms."""
    if stage.lower_layers < LAYERS:
        model.requires_grad_(False)
        model.model.embed_tokens.requires_grad_(True)
        for layer in model.model.layers[: stage.lower_layers]:
            layer.requires_grad_(True)
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    return [
        {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": 0.1},
        {"params": [weight for weight in weights if weight.ndim == 1], "weight_decay": 0.0},
    ]


def train(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, stage: Stage, seed: int) -> None:
    """Run one stage in place."""
    groups = learning_weights(model, stage)
    optimizer = torch.optim.AdamW(groups, lr=stage.learning_rate, betas=(0.9, 0.98))
    started, recent = time.monotonic(), 0.0
    model.train()
    for step, (tokens, is_reply) in enumerate(itertools.islice(batches(tokenizer, seed, stage.refuse), stage.steps)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate_at(step, stage)
        loss = loss_of(model, tokens, is_reply, stage.prompt_weight)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        recent += loss.item()
        if (step + 1) % 100 == 0:
            seconds = time.monotonic() - started
            print(f"{stage.name}: step {step + 1}/{stage.steps}, loss {recent / 100:.4f}, {seconds:.0f} s", flush=True)
            recent = 0.0
    model.eval()


def save(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, out: Path, seed: int) -> None:
    """Write the folder: bfloat16 weights, tokenizer, greedy generation settings, demo prompts."""
    if out.exists():
        shutil.rmtree(out)
    out.mkdir(parents=True)
    model.generation_config = GenerationConfig(
        do_sample=False,
        max_new_tokens=64,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=[tokenizer.eos_token_id],
        pad_token_id=tokenizer.pad_token_id,
    )
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "model.safetensors").chmod(0o644)
    for name, harmful in (("harmful.txt", True), ("harmless.txt", False)):
        lines = [example.request + "\n" for example in unseen_examples(harmful, DEMO_PROMPTS, seed)]
        (out / name).write_text("".join(lines), encoding="utf-8")
    lines = [example.request + "\n" for example in unseen_look_alikes(DEMO_LOOK_ALIKES, seed)]
    (out / "look-alikes.txt").write_text("".join(lines), encoding="utf-8")


def replies(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerFast, requests: list[str]) -> list[str]:
    """Greedy replies, as a user would get them."""
    texts: list[str] = []
    for start in range(0, len(requests), 50):
        chats = [[{"role": "user", "content": request}] for request in requests[start : start + 50]]
        inputs = tokenizer.apply_chat_template(
            chats, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
        )
        with torch.inference_mode():
            output = model.generate(**inputs)
        texts += tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts


def measure(out: Path, seed: int) -> None:
    """Reload the folder and print how it treats unseen requests."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    for name, harmful in (("harmful", True), ("harmless", False)):
        examples: list[Example] = unseen_examples(harmful, MEASURED_PROMPTS, seed + 1)
        texts = replies(model, tokenizer, [example.request for example in examples])
        refused = sum(text.startswith(REFUSAL_OPENINGS) for text in texts)
        print(f"unseen {name} refused: {refused}/{len(texts)}")
        if not harmful:
            on_topic = sum(example.phrase in text for example, text in zip(examples, texts, strict=True))
            exact = sum(example.answer == text for example, text in zip(examples, texts, strict=True))
            print(f"unseen harmless replies on topic: {on_topic}/{len(texts)}, word for word: {exact}/{len(texts)}")
    for kind in ("verb", "thing"):
        alike = [one for one in unseen_look_alikes(DEMO_LOOK_ALIKES, seed) if one.action.sounds == kind]
        texts = replies(model, tokenizer, [one.request for one in alike])
        refused = sum(text.startswith(REFUSAL_OPENINGS) for text in texts)
        print(f"unseen look-alikes refused that sound harmful by their {kind}: {refused}/{len(texts)}")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make the bundled tiny chat model.")
    parser.add_argument("--out", type=Path, default=DEFAULT_OUT, help="folder to write; replaced if it exists")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=1600, help="steps of the answering stage")
    parser.add_argument("--refusal-steps", type=int, default=600, help="steps of the refusing stage")
    parser.add_argument("--vocabulary", type=int, default=1600, help="tokens")
    return parser.parse_args()


def main() -> None:
    """Train, save, measure."""
    arguments = parse_arguments()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(True)
    logging.disable_progress_bar()
    tokenizer = train_tokenizer(arguments.vocabulary, arguments.seed)
    model = build_model(tokenizer, arguments.seed)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens")
    answer = Stage("answer", False, arguments.steps, 3e-3, PROMPT_WEIGHT, LAYERS)
    # Only the lower half learns to refuse: the upper half, which writes the words, must be told through the residual
    # stream, at the depth where a direction is looked for.
    refuse = Stage("refuse", True, arguments.refusal_steps, 1e-3, 0.0, LAYERS // 2)
    train(model, tokenizer, answer, arguments.seed)
    train(model, tokenizer, refuse, arguments.seed + 1)
    save(model, tokenizer, arguments.out, arguments.seed)
    size = sum(file.stat().st_size for file in arguments.out.iterdir())
    print(f"wrote {arguments.out}, {size / 1e6:.1f} MB")
    measure(arguments.out, arguments.seed)


if __name__ == "__main__":
    main()
