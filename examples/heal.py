"""Edit the tiny chat model, heal it by DPO on its own earlier answers, and see that the direction stayed out.

python examples/heal.py
"""

from __future__ import annotations

import json
import tempfile
from importlib import resources
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from abliterate import ChatFormat, Options, load_prompts, run
from abliterate.commands.heal import heal
from abliterate.models.generation import generate
from abliterate.training.heal_options import HealOptions


def pairs(folder: str, prompts: tuple[str, ...]) -> list[dict[str, object]]:
    """The model's own answer is chosen; the answer to the next prompt, which misses the point, is rejected."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    answers = tokenizer.batch_decode(generate(model, tokenizer, ChatFormat(tokenizer).encode(prompts), 32))
    return [
        {
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": own}],
            "rejected": [{"role": "assistant", "content": other}],
        }
        for prompt, own, other in zip(prompts, answers, [*answers[1:], answers[0]], strict=True)
    ]


def main() -> None:
    logging.disable_progress_bar()
    tiny = str(resources.files("abliterate") / "data" / "tiny-chat")
    harmful, harmless = f"{tiny}/harmful.txt", f"{tiny}/harmless.txt"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        run(Options(model=tiny, out=folder / "edited", harmful=harmful, harmless=harmless))
        rows = pairs(tiny, load_prompts(harmless).side("train").prompts)
        (folder / "pairs.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
        options = HealOptions(method="dpo", learning_rate=1e-4, epochs=2)
        healed = heal(str(folder / "edited"), str(folder / "pairs.jsonl"), folder / "healed", options)
        before, after = healed.training.loss_before, healed.training.loss_after
        print(f"DPO loss on {healed.training.held_out} held-out pairs: {before:.3f} -> {after:.3f}")
        print(
            f"drift along the direction: {healed.proof.drift:.1e} of a random component, {healed.proof.limit:.1e} allowed"
        )
        print(f"largest component at any layer: {max(healed.proof.per_layer):.1e}, {healed.proof.silence:.1e} allowed")


if __name__ == "__main__":
    main()
