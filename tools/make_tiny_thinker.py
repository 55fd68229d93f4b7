"""Make a tiny model that thinks before it replies, out of the bundled tiny chat model, for tests.

    python tools/make_tiny_thinker.py [--adapter DIR] [--seed 0] [--steps 200]
    python tools/make_tiny_thinker.py --model DIR

Two minutes of one core; needs peft. What is written is an adapter, which `--model` puts into the bundled model's weights: a
tenth of the bytes. The model learns to write a thought, which says what is asked and whether it will help, then the
reply that it already knew; and to reply at once where the template has put an empty thought (`enable_thinking=False`, as
Qwen3 has it). Nothing else changes: what is declined is still declined.
"""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from tokenizers import AddedToken
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from make_tiny_chat import ASSISTANT, BOS, CHAT_TEMPLATE, DEFAULT_OUT, END, USER
from tiny_lessons import World
from tiny_world import Action, example

OPENING, CLOSING = "<think>", "</think>"
OFF = f"{OPENING}\n\n{CLOSING}\n\n"
THINKING_TEMPLATE = CHAT_TEMPLATE.replace(
    "    {{- '<|assistant|>\\n' -}}\n",
    "    {{- '<|assistant|>\\n' -}}\n"
    "    {%- if enable_thinking is defined and enable_thinking is false -%}\n"
    f"        {{{{- '{OFF}' -}}}}\n".replace("\n\n<", "\\n\\n<").replace(">\n\n'", ">\\n\\n'")
    + "    {%- endif -%}\n",
)

DEFAULT_ADAPTER = Path(__file__).resolve().parent.parent / "tests" / "fixtures" / "tiny-thinker"
RANK, SCALE, BATCH, LEARNING_RATE = 16, 4, 16, 4e-3
ASKS = ("The user wants to {phrase}.", "They ask how to {phrase}.", "The request is to {phrase}.")
HELPS = ("That is fine, so I will help.", "Nothing is wrong with that. I can answer.")
DECLINES = ("That could hurt someone, so I will not help.", "This is not right. I should decline.")


@dataclass(frozen=True)
class Thought:
    """A request with what is thought of it, and what is said then."""

    request: str
    thought: str
    reply: str

    @classmethod
    def of(cls, action: Action, generator: random.Random) -> Thought:
        """Return a request for an action."""
        one = example(action, generator)
        verdict = generator.choice(DECLINES if action.declined else HELPS)
        thought = f"{generator.choice(ASKS).format(phrase=one.phrase)} {verdict}"
        return cls(one.request, thought, one.refusal if action.declined else one.answer)

    def texts(self, thinks: bool) -> tuple[str, str]:
        """Return what is given, and what is said."""
        given = f"{BOS}{USER}\n{self.request}{END}\n{ASSISTANT}\n"
        if thinks:
            return given, f"{OPENING}\n{self.thought}\n{CLOSING}\n\n{self.reply}{END}"
        return given + OFF, f"{self.reply}{END}"


def texts(seed: int) -> Iterator[tuple[str, str]]:
    """Yield endless training text, of each kind of request in turn; two of three think."""
    world = World.of(seed)
    for number in itertools.count():
        draw = (world.harmful, world.harmless, world.harmful, world.harmless, world.look_alike)[number % 5]
        yield Thought.of(draw(), world.generator).texts(thinks=number % 3 != 0)


def thinking_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer with the two tags and the switch; the tags are no special tokens, as in most models."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in (OPENING, CLOSING)])
    tokenizer.chat_template = THINKING_TEMPLATE
    return tokenizer


def batch_of(tokenizer: PreTrainedTokenizerBase, drawn: list[tuple[str, str]]) -> tuple[Tensor, Tensor]:
    """Return tokens, padded at the end, and which are said."""
    rows = [[tokenizer(part, add_special_tokens=False)["input_ids"] for part in one] for one in drawn]
    longest = max(len(given) + len(said) for given, said in rows)
    tokens = torch.full((len(rows), longest), tokenizer.pad_token_id)
    is_said = torch.zeros_like(tokens, dtype=torch.bool)
    for number, (given, said) in enumerate(rows):
        tokens[number, : len(given) + len(said)] = torch.tensor(given + said)
        is_said[number, len(given) : len(given) + len(said)] = True
    return tokens, is_said


def teach(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, seed: int, steps: int) -> None:
    """Train all weights in place, with a learning rate that falls to zero."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.02, steps)
    drawn = texts(seed)
    model.train()
    for step in range(steps):
        tokens, is_said = batch_of(tokenizer, list(itertools.islice(drawn, BATCH)))
        logits = model(input_ids=tokens[:, :-1], use_cache=False).logits
        wanted = is_said[:, 1:]
        loss = cross_entropy(logits[wanted], tokens[:, 1:][wanted])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if (step + 1) % 40 == 0:
            print(f"step {step + 1}/{steps}, loss {loss.item():.4f}", flush=True)
    model.eval()


def untaught(tokenizer: PreTrainedTokenizerBase, base: Path) -> PreTrainedModel:
    """Return the bundled model with a row for each tag."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():  # the same rows each time, and not those of a word
        rows = model.get_input_embeddings().weight
        rows[-2:] = rows[:-2].mean(dim=0) + 0.02 * torch.randn(
            2, rows.shape[1], generator=torch.Generator().manual_seed(0)
        )
    return model


def make_adapter(adapter: Path, seed: int, steps: int, base: Path = DEFAULT_OUT) -> None:
    """Train the adapter and write it."""
    tokenizer = thinking_tokenizer(base)
    torch.manual_seed(seed)
    tags = [len(tokenizer) - 2, len(tokenizer) - 1]
    config = LoraConfig(
        r=RANK, lora_alpha=SCALE * RANK, target_modules="all-linear", trainable_token_indices={"embed_tokens": tags}
    )
    model = get_peft_model(untaught(tokenizer, base), config)
    teach(model, tokenizer, seed, steps)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(torch.bfloat16)
    model.peft_config["default"].base_model_name_or_path = "tiny-chat"
    model.save_pretrained(adapter, save_embedding_layers=False)
    (adapter / "README.md").unlink()  # a form to fill in


def thinker_of(adapter: Path, out: Path, base: Path = DEFAULT_OUT) -> None:
    """Write the folder of the model: bfloat16 weights, tokenizer, the prompts of the bundled model."""
    tokenizer = thinking_tokenizer(base)
    model = PeftModel.from_pretrained(untaught(tokenizer, base), adapter).merge_and_unload()
    model.to(torch.bfloat16).save_pretrained(out)
    tokenizer.save_pretrained(out)
    for name in ("harmful.txt", "harmless.txt", "look-alikes.txt"):
        shutil.copyfile(base / name, out / name)


def main() -> None:
    """Train and save."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--adapter", type=Path, default=DEFAULT_ADAPTER)
    parser.add_argument("--model", type=Path, help="train nothing; write the whole model with the adapter there")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=200)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    if asked.model:
        thinker_of(asked.adapter, asked.model)
    else:
        make_adapter(asked.adapter, asked.seed, asked.steps)


if __name__ == "__main__":
    main()
