"""The part of a model card that says how the result is loaded, for whoever has never seen abliterate, and its limits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NAME = re.compile(r"[\w.-]{1,96}", re.ASCII)
"""Names of a folder that stay what they are in a shell and in a string; any other is called EDITED."""

CHECKPOINT = """\
`{name}` stands for this folder, or for the name of this repository. With transformers:

```python
from transformers import pipeline

chat = pipeline("text-generation", model="{name}")
reply = chat([{{"role": "user", "content": "What is a kettle?"}}], max_new_tokens=64)
print(reply[0]["generated_text"][-1]["content"])
```

With vLLM, which reads the same files:

```sh
vllm serve {name}
```"""

BESIDE = """\
Beside the original instead, as an adapter that can be taken off, with PEFT or llama.cpp:

```sh
abliterate export {name} --model {base} --to adapter --out adapter
abliterate export {name} --model {base} --to gguf-adapter --out adapter.gguf
llama-server --model ORIGINAL.gguf --lora adapter.gguf
```

{peft}"""

PEFT = """\
```python
from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained("{base}"), "{adapter}")
```"""

ADAPTER = """\
`{name}` stands for this folder, or for the name of this repository. It is an adapter for the original, with PEFT:

{peft}"""

MERGED = """

`model.merge_and_unload()` gives a model that transformers saves, and vLLM serves, as any other."""


MEASURE_LIMITS = """\
- A reply counts as a refusal by how it opens. The judge is automatic, and does not look at what a reply goes on to say.
- The figures hold for the prompts named above and say nothing of other languages, longer conversations, general
  ability, or whether an answer is right or harmless.
"""

LIMITS = """\
- Refusing is a part of how a model is kept from harm. A model that refuses less follows requests that its makers meant
  it to decline: whoever offers it to others answers for what takes the place of its refusals, for the law that
  applies, and for the terms of the model that it was made from.
- It is meant for research: on how models refuse, how easily that comes off, and how to repair refusals that are out of
  place."""

RESEARCH = """\
- It is meant for research: on which behaviours of a model one direction carries, and what goes with them.
"""

CALMED_LIMITS = """\
- Refusals of harmful prompts were held on the prompts named above and not one by one: the figures say how many were lost.
- It is meant for research: on how models over-refuse, and how to repair refusals that are out of place.
"""

INDUCED_LIMITS = """\
- The vector is added whatever the prompt: requests that are harmless are declined too, as the figures show.
- It is meant for research: on how models refuse and over-refuse. It is no safeguard: what was added can be taken away again.
"""


def usage_text(manifest: Mapping[str, Any], base: str | None) -> str:
    """Return how to load a result with transformers, vLLM, PEFT and llama.cpp, `base` being the original's name on the Hub.

    What is added to biases has no adapter that llama.cpp reads, and cannot be merged.
    """
    words = manifest["command"]
    name = str(words[-1]) if words and NAME.fullmatch(str(words[-1])) else "EDITED"
    original, added = base or "ORIGINAL", "added" in manifest["recipe"]
    if manifest.get("form") == "adapter":
        peft = PEFT.format(base=original, adapter=name)
        return ADAPTER.format(name=name, peft=peft) + ("" if added else MERGED)
    text = CHECKPOINT.format(name=name)
    if added:
        return text
    return f"{text}\n\n{BESIDE.format(name=name, base=original, peft=PEFT.format(base=original, adapter='adapter'))}"
