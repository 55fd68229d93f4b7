"""What can be done to a live model without changing it: ablate, add, move to a value, and any of them only where it is wanted.

python examples/interventions.py           # the bundled tiny chat model
python examples/interventions.py MODEL     # a folder or a Hub id, with the built-in prompts
"""

from __future__ import annotations

import sys
from contextlib import nullcontext
from importlib import resources

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate import capture, difference_in_means, is_refusal, load_prompts
from abliterate.interventions import Condition, ablated, added, affine, mean_component, rows_where


def batch_of(tokenizer, prompts: list[str]) -> dict[str, torch.Tensor]:
    talks = [[{"role": "user", "content": prompt}] for prompt in prompts]
    return tokenizer.apply_chat_template(
        talks, add_generation_prompt=True, padding=True, return_tensors="pt", return_dict=True
    )


def replies(model, tokenizer, batch: dict[str, torch.Tensor]) -> list[str]:
    with torch.inference_mode():
        output = model.generate(**batch, max_new_tokens=24, do_sample=False)
    texts = tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def main() -> None:
    tiny = resources.files("abliterate") / "data" / "tiny-chat"
    folder, harmful, harmless, layer = str(tiny), f"{tiny}/harmful.txt", f"{tiny}/harmless.txt", 4
    if len(sys.argv) > 1:
        folder, harmful, harmless = sys.argv[1], "builtin:harmful", "builtin:harmless"
        layer = 15
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")

    refused, answered = load_prompts(harmful), load_prompts(harmless)
    of_harmful = capture(model, tokenizer, refused.side("train"))
    of_harmless = capture(model, tokenizer, answered.side("train"))
    directions = difference_in_means(of_harmful, of_harmless)
    direction = directions[layer]
    high, low = mean_component(of_harmful, direction), mean_component(of_harmless, direction)
    # Half-way between harmful and harmless prompts, at their last token.
    looks_harmful = Condition(direction, layer, float(high[layer] + low[layer]) / 2)

    batches = [batch_of(tokenizer, list(one.side("report").prompts[:16])) for one in (refused, answered)]
    chosen = [rows_where(model, looks_harmful, **batch) for batch in batches]
    interventions = {
        "none": lambda rows: nullcontext(),
        "ablated": lambda rows: ablated(model, direction),
        "ablated, prompts over the limit": lambda rows: ablated(model, direction, when=rows),
        "affine, to harmless": lambda rows: affine(model, direction, low),
        "affine, tokens over the limit": lambda rows: affine(model, direction, low, when=looks_harmful),
        "affine, to harmful, one layer": lambda rows: affine(model, direction, high, [layer]),
        "added": lambda rows: added(model, directions.difference(layer + 2), layer + 2),
    }
    print(f"{'':40} harmful harmless  first words to a harmless prompt")
    print(f"{'prompts':40} {len(chosen[0]):7} {len(chosen[1]):8}")
    print(f"{'over the limit':40} {int(chosen[0].sum()):7} {int(chosen[1].sum()):8}")
    for name, intervention in interventions.items():
        said = []
        for batch, rows in zip(batches, chosen, strict=True):
            with intervention(rows):
                said.append(replies(model, tokenizer, batch))
        refused_here = [sum(map(is_refusal, one)) for one in said]
        print(f"{'refused, ' + name:40} {refused_here[0]:7} {refused_here[1]:8}  {said[1][0][:40]}")


if __name__ == "__main__":
    main()
