"""Fine-tune an edited model, with and without keeping the direction out: what comes back, and what does not.

python examples/keep_direction_out.py
"""

from __future__ import annotations

import tempfile
from importlib import resources

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, Trainer, TrainingArguments
from transformers.utils import logging

from abliterate import (
    ChatFormat,
    KeepDirectionOut,
    capture,
    difference_in_means,
    find_architecture,
    load_prompts,
    orthogonalize,
)
from abliterate.proofs.stream import relative_component

LAYER = 4


def main() -> None:
    logging.disable_progress_bar()
    tiny = str(resources.files("abliterate") / "data" / "tiny-chat")
    tokenizer = AutoTokenizer.from_pretrained(tiny)
    harmful, harmless = (load_prompts(f"{tiny}/{side}.txt").side("train") for side in ("harmful", "harmless"))
    # Any fine-tuning data will do to see it: here requests, each followed by a fixed friendly line.
    reply = tokenizer("Happy to help.", add_special_tokens=False)["input_ids"]
    rows = [
        {"input_ids": [*one, *reply], "labels": [*one, *reply]}
        for one in ChatFormat(tokenizer).encode(harmless.prompts)
    ]
    sequences = [row["input_ids"] for row in rows[:8]]

    for keep in (False, True):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_pretrained(tiny, dtype="float32")
        directions = difference_in_means(capture(model, tokenizer, harmful), capture(model, tokenizer, harmless))
        orthogonalize(model, directions[LAYER])
        with tempfile.TemporaryDirectory() as folder:
            arguments = TrainingArguments(
                folder, max_steps=30, per_device_train_batch_size=1, gradient_accumulation_steps=4, learning_rate=1e-3,
                report_to=[], save_strategy="no", logging_strategy="no", disable_tqdm=True, use_cpu=True,
            )  # fmt: skip
            callbacks = [KeepDirectionOut(directions[LAYER])] if keep else []
            Trainer(model, arguments, train_dataset=rows, callbacks=callbacks).train()
        largest = max(relative_component(model.eval(), find_architecture(model), directions[LAYER][None], sequences))
        print(f"{'kept out' if keep else 'plain':8}  largest component along the direction at any layer: {largest:.1e}")


if __name__ == "__main__":
    main()
