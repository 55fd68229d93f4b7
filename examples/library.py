"""The library in one page: find the direction, look at it with hooks, edit the weights in place.

python examples/library.py                 # the bundled tiny chat model
python examples/library.py MODEL           # a folder or a Hub id, with the built-in prompts
"""

from __future__ import annotations

import sys
from importlib import resources

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate import ablated, capture, difference_in_means, is_refusal, load_prompts, orthogonalize


def reply(model, tokenizer, prompt: str) -> str:
    tokens = tokenizer.apply_chat_template(
        [{"role": "user", "content": prompt}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    with torch.inference_mode():
        output = model.generate(**tokens, max_new_tokens=32, do_sample=False)
    return tokenizer.decode(output[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True).strip()


def main() -> None:
    tiny = resources.files("abliterate") / "data" / "tiny-chat"
    folder, harmful, harmless, layer = str(tiny), f"{tiny}/harmful.txt", f"{tiny}/harmless.txt", 4
    if len(sys.argv) > 1:
        folder, harmful, harmless = sys.argv[1], "builtin:harmful", "builtin:harmless"
        layer = 15
    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    refused, answered = load_prompts(harmful), load_prompts(harmless)
    directions = difference_in_means(
        capture(model, tokenizer, refused.side("train")), capture(model, tokenizer, answered.side("train"))
    )
    prompt = refused.side("report").prompts[0]

    print("prompt     ", prompt)
    print("original   ", before := reply(model, tokenizer, prompt))
    with ablated(model, directions[layer]):  # hooks: nothing is changed for good
        print("ablated    ", reply(model, tokenizer, prompt))
    assert reply(model, tokenizer, prompt) == before
    orthogonalize(model, directions[layer])  # in place, ready for fine-tuning
    print("edited     ", after := reply(model, tokenizer, prompt))
    print("refusal    ", is_refusal(before), "->", is_refusal(after))


if __name__ == "__main__":
    main()
