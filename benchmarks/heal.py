"""What healing wins back on a real model, and what plain fine-tuning brings back along the direction.

    python benchmarks/heal.py MODEL EDITED harmful.json harmless.json --examples harmless_val.json --out HEALED

The examples are MODEL's own replies to the prompts of `--examples`, those that are no refusal: no text is made up, and nothing is
learned that MODEL did not know. They are sampled at temperature 1: the cross-entropy on such replies is KL(original || healed) and
a constant. (Greedy replies would reward being surer than the original is.) EDITED is healed on them (SFT), once with the direction kept out (`abliterate heal`)
and once without that (the control). Each is then measured against MODEL on the report split of both lists. About 25 minutes on
two cores for a model of 0.5B.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from abliterate.architectures.architecture import find_architecture
from abliterate.commands.evaluate import evaluate
from abliterate.commands.heal import edit_of_folder, heal
from abliterate.models.generation import end_tokens
from abliterate.models.loading import load_model
from abliterate.models.source import Source, load_tokenizer, resolve
from abliterate.pipeline.evaluate_options import HARMFUL, HARMLESS, EvaluateOptions
from abliterate.pipeline.options import Options
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.prompt_set import load_prompts
from abliterate.proofs.stream import plain_sequences, relative_component
from abliterate.replies.coherence import is_incoherent
from abliterate.replies.refusals import is_refusal
from abliterate.training.heal import make_trainer
from abliterate.training.heal_options import HealOptions

TOKENS, BATCH = 200, 20
FIGURES = ("KL, last prompt token", "KL, over the original's replies", "cross-entropy, original's replies")


def own_replies(source: Source, prompts: list[str], path: Path) -> int:
    """Write MODEL's replies as a dataset of prompts and completions; return how many there are."""
    model, tokenizer = load_model(source, "auto", "auto"), load_tokenizer(source)
    torch.manual_seed(0)
    tokenizer.padding_side = "left"
    chat, ends, rows = ChatFormat(tokenizer), end_tokens(model, tokenizer), []
    plainly = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}
    for start in range(0, len(prompts), BATCH):
        part = prompts[start : start + BATCH]
        batch = tokenizer.pad({"input_ids": chat.encode(part)}, return_tensors="pt")
        said = model.generate(**batch, do_sample=True, max_new_tokens=TOKENS, **plainly)[
            :, batch["input_ids"].shape[1] :
        ]
        for prompt, reply in zip(part, said.tolist(), strict=True):
            text = tokenizer.decode(reply, skip_special_tokens=True).strip()
            if (
                ends & set(reply) and not is_refusal(text) and not is_incoherent(text)
            ):  # cut replies would teach to end early
                asked, answered = ({"role": "user", "content": prompt}, {"role": "assistant", "content": text})
                rows.append({"prompt": [asked], "completion": [answered]})
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return len(rows)


def plain(edited: Source, dataset: Path, options: HealOptions, out: Path) -> None:
    """Fine-tune as `heal` does, but let the direction in."""
    model, tokenizer = load_model(edited, "auto", "auto"), load_tokenizer(edited)
    rows = [json.loads(line) for line in dataset.read_text(encoding="utf-8").splitlines()]
    learned = [row for place, row in enumerate(rows) if place % 10]
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(model, tokenizer, learned, rows[:2], Path(folder), options)
        trainer.train()
    trainer.model.merge_and_unload().save_pretrained(out)
    tokenizer.save_pretrained(out)


def along(source: Source, basis: object) -> float:
    """Return the largest component along the direction, relative to the stream, over layers and tokens."""
    model = load_model(source, "auto", "auto")
    return max(relative_component(model, find_architecture(model), basis, plain_sequences(load_tokenizer(source))))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("edited")
    parser.add_argument("harmful")
    parser.add_argument("harmless")
    parser.add_argument("--examples", required=True)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    console = Console(width=150)
    original, edited = resolve(given.model), resolve(given.edited)
    dataset = given.out.with_name("examples.jsonl")
    prompts = list(load_prompts(given.examples).prompts[: given.count])
    console.print(f"{own_replies(original, prompts, dataset)} of {len(prompts)} prompts are answered")
    options = HealOptions(steps=given.steps)
    healed = heal(given.edited, str(dataset), given.out, options, force=True)
    console.print(healed.training)
    control = given.out.with_name(f"{given.out.name}-plain")
    plain(edited, dataset, options, control)
    _, basis = edit_of_folder(edited)
    table = Table("", "refused, harmful", "refused, harmless", *FIGURES, "along the direction")
    for name, folder in (("edited", given.edited), ("healed", given.out), ("fine-tuned plainly", control)):
        wanted = EvaluateOptions(reply_tokens=32, look_alikes=None)
        asked = Options(str(folder), Path(), harmful=given.harmful, harmless=given.harmless)
        one = evaluate(asked, wanted, given.model).to_json()
        refused = [one["sets"][side]["model"]["refused"] for side in (HARMFUL, HARMLESS)]
        means = [one["figures"][figure]["model"] for figure in FIGURES]
        table.add_row(
            name,
            *(f"{rate['count']}/{rate['total']}" for rate in refused),
            *(f"{mean['mean']:.4f} [{mean['low']:.4f}, {mean['high']:.4f}]" for mean in means),
            f"{along(resolve(str(folder)), basis):.1e}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
