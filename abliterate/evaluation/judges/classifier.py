"""A sequence classifier as judge."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.hub.download import download
from abliterate.models.source import load_errors
from abliterate.parallel.devices import choose_device
from abliterate.progress import SILENT, Progress
from abliterate.replies.labels import Label, unrefused_label
from abliterate.replies.thinking import visible_reply

BATCH = 16
"""Replies that a classifier reads at once."""

LONGEST = 512
"""Tokens of a reply with its prompt that a classifier reads: refusals show early, and many are trained on no more."""

NEGATED = re.compile(r"^(?:non|not?|un)[\W_]*", re.I)

CLASSIFIER_LABELS = (
    # Minos-v1 and those that follow it ("Refusal", "Non-refusal") read the whole exchange between these marks.
    (re.compile(r"refus", re.I), "<|user|>\n{prompt}\n<|assistant|>\n{reply}"),
    # distilroberta-base-rejection-v1 ("REJECTION", "NORMAL") was trained on replies alone.
    (re.compile(r"reject", re.I), "{reply}"),
)
"""What a classifier calls a refusal, and the text that those who use the word were trained on."""


@dataclass(frozen=True)
class ClassifierJudge:
    """A sequence classifier decides what is refused; of what is not, the rules say what else it is."""

    name: str
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    refusal: int
    form: str

    @classmethod
    def load(cls, name: str, device: str = "auto", offline: bool = False) -> ClassifierJudge:
        """Load a classifier from the Hub or a folder: safetensors only, and no code of its own.

        Raises InputError where none of its labels is a refusal or its weights are not whole, HubError as any download.
        """
        folder = Path(name) if Path(name).is_dir() else download(name, None, offline)
        with load_errors(name):
            model, report = AutoModelForSequenceClassification.from_pretrained(
                folder, use_safetensors=True, output_loading_info=True
            )
            tokenizer = AutoTokenizer.from_pretrained(folder)
        untrained = sorted({*report["missing_keys"], *(key for key, *_ in report["mismatched_keys"])})
        if untrained:
            raise InputError(
                f"--judge {name}: {len(untrained)} tensors that it needs are missing from its weights (for one: "
                f"{untrained[0]}), so that random numbers would judge; give a classifier that was trained to its end"
            )
        labels: dict[int, str] = model.config.id2label
        for pattern, form in CLASSIFIER_LABELS:
            found = [place for place, label in labels.items() if pattern.search(label) and not NEGATED.match(label)]
            if len(found) == 1:
                return cls(name, model.eval().to(choose_device(device)), tokenizer, found[0], form)
        raise InputError(
            f"--judge {name}: its labels are {', '.join(labels.values())}, and none of them says refusal or rejection; "
            "give a classifier whose config.json names one so (id2label)"
        )

    def judge(self, pairs: Sequence[tuple[str, str]], progress: Progress = SILENT) -> list[Label]:
        """Return a label for each (prompt, reply)."""
        texts = [self.form.format(prompt=prompt, reply=visible_reply(reply)) for prompt, reply in pairs]
        order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
        labels: list[Label] = ["refused"] * len(texts)
        with progress.step(f"judging by {self.name}", len(texts), "replies") as advance:
            for start in range(0, len(order), BATCH):
                places = order[start : start + BATCH]
                batch = self.tokenizer(
                    [texts[place] for place in places],
                    padding=True,
                    truncation=True,
                    max_length=min(LONGEST, self.tokenizer.model_max_length),
                    return_tensors="pt",
                )
                with torch.inference_mode():
                    refused = self.model(**batch.to(self.model.device)).logits.argmax(-1) == self.refusal
                for place, verdict in zip(places, refused.tolist(), strict=True):
                    if not verdict:
                        labels[place] = unrefused_label(*pairs[place])
                advance(len(places))
        return labels
