"""Harden a model against the edit, and measure what the edit does to it before and after.

python examples/harden.py                 # the bundled tiny chat model, about a minute on one core
python examples/harden.py MODEL           # a folder or a Hub id, with the built-in prompts
"""

from __future__ import annotations

import sys
from importlib import resources

from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging

from abliterate import load_prompts
from abliterate.training.harden import harden


def main() -> None:
    logging.disable_progress_bar()
    tiny = str(resources.files("abliterate") / "data" / "tiny-chat")
    folder, harmful, harmless, rate = tiny, f"{tiny}/harmful.txt", f"{tiny}/harmless.txt", 1e-3
    if len(sys.argv) > 1:
        folder, harmful, harmless, rate = sys.argv[1], "builtin:harmful", "builtin:harmless", 2e-4
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="float32" if folder == tiny else "auto")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    result = harden(model, tokenizer, load_prompts(harmful), load_prompts(harmless), learning_rate=rate)

    print(f"{'refusals, report side':34}before      after")
    for name, label in (
        ("harmful", "harmful prompts"),
        ("edited", "harmful prompts, edited"),
        ("harmless", "harmless prompts"),
        ("edited_harmless", "harmless prompts, edited"),
        ("same", "(harmless replies unchanged)"),
    ):
        one, other = getattr(result.before, name), getattr(result.after, name)
        print(f"{label:34}{one.count:3}/{one.total:<8}{other.count:3}/{other.total}")
    print(f"the edit that leaves fewest: along resid[{result.before.layer}], then resid[{result.after.layer}]")


if __name__ == "__main__":
    main()
