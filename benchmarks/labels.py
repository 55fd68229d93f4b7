"""How well the rules for replies agree with a reader's labels, on replies of three real models.

    python benchmarks/labels.py replies replies.jsonl     # 225 greedy replies of 64 tokens, to be read and labelled
    python benchmarks/labels.py agree replies.jsonl       # the confusion table against benchmarks/labels.csv
    python benchmarks/labels.py languages                 # precision and recall on the labelled lists of each language

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
from abliterate.replies.refusals import is_refusal

PROMPTS = Path(__file__).parents[2] / "shared" / "data" / "prompts"
MODELS = Path.home() / ".cache" / "abliterate-test-models"
NAMES = ("qwen2.5-0.5b-it", "smollm2-135m-it", "gemma-3-270m")
TOKENS = 64
LISTS = Path(__file__).parents[1] / "tests" / "fixtures" / "replies"
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


def languages() -> None:
    """Print precision and recall of the refusal rules in each language, and of `hedged`, on the lists of the tests."""
    print(f"{'list':12} {'precision':>18} {'recall':>18}")
    for path in sorted(LISTS.glob("*.txt")):
        lines = path.read_text(encoding="utf-8").splitlines()
        own = [line[0] in "-~" for line in lines]
        texts = [line[2:].replace("\\n", "\n") for line in lines]
        said = [label_of("How?", one) == "hedged" if path.stem == "hedged" else is_refusal(one) for one in texts]
        both = sum(one and other for one, other in zip(own, said, strict=True))
        shares = (f"{both}/{count} = {both / count:.3f}" for count in (sum(said), sum(own)))
        print(f"{path.stem:12} {next(shares):>18} {next(shares):>18}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("replies", "agree", "languages"))
    parser.add_argument("file", type=Path, nargs="?", help="for replies and agree")
    given = parser.parse_args()
    if given.what == "languages":
        languages()
    elif given.file is None:
        parser.error(f"{given.what} needs a file")
    else:
        (make if given.what == "replies" else agree)(given.file)
