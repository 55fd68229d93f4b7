"""What an evaluation is asked to measure, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from abliterate.errors import InputError
from abliterate.evaluation.judges.judge import Judge
from abliterate.extras import require
from abliterate.parallel.processes import Processes
from abliterate.pipeline.conditions import Settled
from abliterate.pipeline.options import Options
from abliterate.prompts.chat_format import read_template, template_digest
from abliterate.prompts.prompt_set import PromptSet, load_prompts
from abliterate.prompts.sources import public_spec

MeasuredSplit = Literal["report", "all"]
MEASURED_SPLITS: tuple[MeasuredSplit, ...] = get_args(MeasuredSplit)

HARMFUL, HARMLESS, LOOK_ALIKES = "harmful", "harmless", "look-alikes"


@dataclass(frozen=True)
class EvaluateOptions:
    """What an evaluation measures, and how; the defaults are those of the command.

    `split` says which prompts count: those that no run has used to find or choose an edit, or all of a list.
    """

    reply_tokens: int = 128
    n_prompts: int = 100
    split: MeasuredSplit = "report"
    look_alikes: str | None = "builtin:look-alikes"
    text: Path | None = None
    judge: str | None = None
    judge_endpoint: str | None = None
    judge_model: str | None = None
    endpoint: str | None = None
    served_model: str | None = None
    concurrency: int = 8
    tasks: tuple[str, ...] = ()
    task_limit: int | None = None

    def check(self, options: Options) -> None:
        """Raise InputError for what contradicts itself."""
        if bool(options.model) == bool(self.endpoint):
            raise InputError("evaluate needs a MODEL, or --endpoint URL and what it serves; give one of the two")
        if self.judge and self.judge_endpoint:
            raise InputError("--judge and --judge-endpoint: one judge decides; leave one of them away")
        for flag, value, needs, given in (
            ("--judge-model", self.judge_model, "--judge-endpoint", self.judge_endpoint),
            ("--served-model", self.served_model, "--endpoint", self.endpoint),
        ):
            if value and not given:
                raise InputError(f"{flag} names a model on a server; add {needs} URL")
        for flag, number in (("--reply-tokens", self.reply_tokens), ("--n-prompts", self.n_prompts)):
            if number < 1:
                raise InputError(f"{flag} {number}: give a number from 1 up")
        if Processes.launched().count > 1 and (self.endpoint or self.tasks):
            raise InputError("--endpoint and --tasks share their work out themselves; run them without a launcher")
        for flag, url in (("--endpoint", self.endpoint), ("--judge-endpoint", self.judge_endpoint)):
            if url:
                require("endpoint", flag)
        if self.tasks and not self.endpoint:
            require("eval", "--tasks")
        if not self.endpoint:
            return
        if self.text or self.tasks:
            raise InputError("--endpoint gives replies only; leave --text and --tasks away, or evaluate the files")
        if options.thinking != "auto" or options.chat_template:
            raise InputError(
                "the server applies the chat template: start it with the one you want, and leave it away here"
            )

    def record(
        self, options: Options, judge: Judge, sets: Mapping[str, PromptSet], settled: Settled | None = None
    ) -> dict[str, Any]:
        """Return what `evaluation.json` says of how it was measured; folders of this machine stay out of it."""
        template = read_template(options.chat_template)
        lists = {HARMFUL: options.harmful, HARMLESS: options.harmless, LOOK_ALIKES: self.look_alikes}
        return {
            "reply_tokens": self.reply_tokens,
            "judge": judge.name,
            "split": self.split,
            "prompts": {
                name: {
                    "spec": one.name,
                    "digest": one.digest,
                    "count": len(one),
                    "list": load_prompts(str(lists[name]), offline=options.offline).digest,
                }
                for name, one in sets.items()
            },
            "dtype": options.dtype,
            "system": options.system,
            "thinking": options.thinking,
            "chat_template": None
            if template is None or options.chat_template is None
            else {"file": options.chat_template.name, "digest": template_digest(template)},
            "conditions": dict(settled.origins) if settled else {},
            "text": public_spec(str(self.text)) if self.text else None,
            "tasks": list(self.tasks),
            "served": self.endpoint is not None,
        }
