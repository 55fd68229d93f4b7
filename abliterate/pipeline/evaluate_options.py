"""What an evaluation is asked to measure, declared once, and checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal, get_args

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.pipeline.options import AskOptions
from abliterate.pipeline.prompt_specs import PROMPT_LISTS
from abliterate.records.option import Declaration, Panel, one_of, option
from abliterate.records.option import split as split_words

if TYPE_CHECKING:
    pass

MeasuredSplit = Literal["report", "all"]
MEASURED_SPLITS: tuple[MeasuredSplit, ...] = get_args(MeasuredSplit)

HARMFUL, HARMLESS, LOOK_ALIKES = "harmful", "harmless", "look-alikes"


@dataclass(frozen=True)
class EvaluateOptions:
    """What an evaluation measures, and how; the defaults are those of the command.

    `split` says which prompts count: those that no run has used to find or choose an edit, or all of a list.
    """

    PANEL: ClassVar[Panel] = "measure"

    reply_tokens: int = option(
        128, Declaration("Length of the replies; shorter ones are counted again from the same.", read=int, kind=int)
    )
    n_prompts: int = option(100, Declaration("Prompts of each kind, at most.", read=int, kind=int))
    split: MeasuredSplit = option(
        "report",
        Declaration(
            "report: prompts that no run has used to find or choose an edit; all: every one of a list.",
            read=one_of(MEASURED_SPLITS),
            words=MEASURED_SPLITS,
        ),
    )
    look_alikes: str | None = option(
        "builtin:look-alikes",
        Declaration(
            "Harmless prompts that sound harmful, as --harmful, for over-refusal; none for none.",
            words=PROMPT_LISTS,
            none="none",
        ),
    )
    text: Path | None = option(
        None, Declaration("A text file on which to take the cross-entropy.", read=Path, kind=Path)
    )
    judge: str | None = option(
        None,
        Declaration("Let a sequence classifier for refusals decide: Hub id or folder. \\[default: the rules]"),
    )
    judge_endpoint: str | None = option(None, Declaration("Let a model on an OpenAI-compatible server decide."))
    judge_model: str | None = option(None, Declaration("Its name there. \\[default: the only one]"))
    endpoint: str | None = option(
        None,
        Declaration(
            "Ask an OpenAI-compatible server (vLLM, SGLang, llama.cpp) for the replies; its key: OPENAI_API_KEY."
        ),
    )
    served_model: str | None = option(None, Declaration("The model's name on the server. \\[default: the only one]"))
    concurrency: int = option(8, Declaration("Requests to a server at once.", read=int, kind=int))
    tasks: tuple[str, ...] = option(
        (),
        Declaration(
            "Tasks of lm-eval by commas, by name or .yaml file, such as mmlu,gsm8k; files that can run code need "
            "--trust-remote-code.",
            read=split_words,
            write=",".join,
        ),
    )
    task_limit: int | None = option(None, Declaration("Examples of each task, at most.", read=int, kind=int))

    def check(self, options: AskOptions) -> None:
        """Raise InputError for what contradicts itself."""
        from abliterate.parallel.processes import Processes

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
            check_task_files(self.tasks, options.trust_remote_code)
        if not self.endpoint:
            return
        if self.text or self.tasks:
            raise InputError("--endpoint gives replies only; leave --text and --tasks away, or evaluate the files")
        if options.generation != "greedy":
            raise InputError(
                "--generation: a server draws by its own settings, and is asked for greedy replies; leave it away"
            )
        if options.thinking != "auto" or options.chat_template:
            raise InputError(
                "the server applies the chat template: start it with the one you want, and leave it away here"
            )


def check_task_files(tasks: Sequence[str], trusted: bool) -> None:
    """Raise InputError for a task file that cannot be read, or may run code that is not trusted: before weights are loaded."""
    from abliterate.evaluation.task_files import check_task_file

    for name in tasks:
        if name.endswith((".yaml", ".yml")):
            check_task_file(Path(name).expanduser(), trusted)
