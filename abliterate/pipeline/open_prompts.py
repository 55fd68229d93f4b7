"""The prompts of both sides, and how they are put to a model: as the options say."""

from __future__ import annotations

from dataclasses import replace

from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.pipeline.options import AskOptions, Options, TemplateOptions
from abliterate.prompts.chat_format import ChatFormat, read_template
from abliterate.prompts.moment import moment_of
from abliterate.prompts.prompt_set import PromptSet, check_pair, load_prompts
from abliterate.prompts.splits import LookAlikes


def open_prompts(options: AskOptions) -> tuple[PromptSet, PromptSet]:
    """Return the harmful and the harmless prompts. Raises InputError for a list that cannot be read, or both the same."""
    harmful, harmless = (load_prompts(spec, offline=options.offline) for spec in (options.harmful, options.harmless))
    check_pair(harmful, harmless)
    return harmful, harmless


def open_look_alikes(options: Options, harmful: PromptSet) -> LookAlikes | None:
    """Return the look-alikes of `--mode calm`, None in any other. Raises InputError for lists that share prompts, as `open_prompts`."""
    if options.mode != "calm":
        return None
    measured = options.measured_look_alikes
    found = LookAlikes(
        load_prompts(options.look_alikes, offline=options.offline),
        None if measured is None else load_prompts(measured, offline=options.offline),
    )
    found.check(harmful)
    return found


def open_keep(options: Options) -> PromptSet | None:
    """Return the prompts of `--keep`, None without. Raises InputError for a list that cannot be read."""
    return None if options.keep is None else load_prompts(options.keep, offline=options.offline)


def open_chat(options: TemplateOptions, tokenizer: PreTrainedTokenizerBase, tried: str | None = None) -> ChatFormat:
    """Return how prompts are put to a model: by its template or the one given, its system prompt and thinking switch.

    `tried` is a prompt to put now: a template that fails does so before any weights are loaded. Raises InputError for a
    template that cannot be read, is missing or fails.
    """
    chat = ChatFormat(tokenizer, options.system, options.thinking, read_template(options.chat_template))
    chat = replace(chat, moment=moment_of(chat.source, options.date))
    if tried is not None:
        chat.render(tried)
    return chat


def check_recorded_prompts(options: AskOptions, side: str, digest: str | None, recorded: str | None = None) -> None:
    """Raise InputError unless the prompts of a side are those that a record names by their digest.

    `recorded` is what the record calls them.
    """
    spec: str = getattr(options, side)
    if load_prompts(spec, offline=options.offline).digest != digest:
        named = "" if recorded is None else f" ({recorded})"
        flag = f"--{side.replace('_', '-')}"
        raise InputError(f"{spec}: holds other {side} prompts than the run had{named}; give them with {flag}")
