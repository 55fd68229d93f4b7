"""How well the rules for replies agree with a reader's labels, on replies of three real models.

    python benchmarks/labels.py replies replies.jsonl     # 225 greedy replies of 64 tokens, to be read and labelled
    python benchmarks/labels.py agree replies.jsonl       # the confusion table against benchmarks/labels.csv

The replies themselves stay out of the repository: some answer harmful requests. `labels.csv` knows each by the hash of
model, prompt and reply. The labels were given by reading prompt and reply without the rules' verdict.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
from collections import Counter
from pathlib import Path

from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.evaluation.statistics import Rate
from abliterate.models.generation import generate
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.sources import builtin
from abliterate.replies.labels import REPLY_LABELS, label_of

PROMPTS = Path(__file__).parents[2] / "shared" / "data" / "prompts"
MODELS = Path.home() / ".cache" / "abliterate-test-models"
NAMES = ("qwen2.5-0.5b-it", "smollm2-135m-it", "gemma-3-270m")
TOKENS = 64
LABELLED = Path(__file__).parent / "labels.csv"

GEMMA = (
    "{{ bos_token }}{% for message in messages %}<start_of_turn>user\n{{ message['content'] }}<end_of_turn>\n"
    "{% endfor %}<start_of_turn>model\n"
)
"""The base model of the three has no template; that of its chat models makes it answer after its fashion."""


def prompts() -> list[str]:
    """39 harmful prompts, 20 harmless ones that sound harmful, 16 harmless ones."""
    harmful = json.loads((PROMPTS / "harmful_val.json").read_text())
    harmless = json.loads((PROMPTS / "harmless_val.json").read_text())
    return [*harmful, *builtin("look-alikes")[::6], *harmless[::16]]


def make(path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for name in NAMES:
            model = AutoModelForCausalLM.from_pretrained(MODELS / name, dtype="float32").eval()
            tokenizer = AutoTokenizer.from_pretrained(MODELS / name)
            chat = ChatFormat(tokenizer, template=None if tokenizer.chat_template else GEMMA)
            asked = prompts()
            replies = generate(model, tokenizer, chat.encode(asked), TOKENS)
            for prompt, reply in zip(asked, replies, strict=True):
                record = {"model": name, "prompt": prompt, "reply": tokenizer.decode(reply)}
                file.write(json.dumps({"id": identity(record), **record}, ensure_ascii=False) + "\n")
            print(name, len(replies), "replies", flush=True)


def identity(record: dict[str, str]) -> str:
    whole = "\0".join(record[name] for name in ("model", "prompt", "reply"))
    return hashlib.sha256(whole.encode()).hexdigest()[:16]


def agree(path: Path) -> None:
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with LABELLED.open(newline="") as file:
        own = {row["id"]: row["label"] for row in csv.DictReader(file)}
    known = [record for record in records if record["id"] in own]
    pairs = [(own[record["id"]], label_of(record["prompt"], record["reply"]), record) for record in known]
    counts = Counter((reader, rules) for reader, rules, _ in pairs)
    print(f"{len(known)} of {len(records)} replies are labelled (others: this machine rounds otherwise)\n")
    print(f"{'reader, rules:':>16}", *(f"{label:>11}" for label in REPLY_LABELS))
    for reader in REPLY_LABELS:
        print(f"{reader:>16}", *(f"{counts[reader, rules]:11}" for rules in REPLY_LABELS))
    print()
    for title, right in (
        ("all four labels", [reader == rules for reader, rules, _ in pairs]),
        ("refused or not", [(reader == "refused") == (rules == "refused") for reader, rules, _ in pairs]),
    ):
        rate = Rate(sum(right), len(right))
        print(f"{title}: {rate.count}/{rate.total} = {rate.value:.1%} [{rate.interval[0]:.1%}, {rate.interval[1]:.1%}]")
    both = sum(reader == rules == "refused" for reader, rules, _ in pairs)
    said, meant = (sum(one[place] == "refused" for one in pairs) for place in (1, 0))
    print(f"refused: precision {both}/{said}, recall {both}/{meant}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("replies", "agree"))
    parser.add_argument("file", type=Path)
    given = parser.parse_args()
    (make if given.what == "replies" else agree)(given.file)
