"""`abliterate MODEL --mode harden`: train an adapter under which refusal survives the edit, and measure that."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.extras import require
from abliterate.models.generation import REPLY_TOKENS
from abliterate.models.loading import load_model
from abliterate.models.offload import streaming_of
from abliterate.models.source import Source, load_tokenizer
from abliterate.pipeline.command import command, settings
from abliterate.pipeline.open_model import open_source
from abliterate.pipeline.open_prompts import open_chat, open_prompts
from abliterate.pipeline.options import Options
from abliterate.progress import SILENT, Progress
from abliterate.prompts.prompt_set import PromptSet
from abliterate.records.manifest import keep_template
from abliterate.records.option import changed, declarations, flag_of, without_flag, words_of
from abliterate.records.training_card import provenance, write_record
from abliterate.storage.names import HARDENED, SETTINGS
from abliterate.storage.staging import Staging, check_destination, check_free
from abliterate.training.harden import HardenResult, harden
from abliterate.training.harden_options import HardenOptions
from abliterate.training.lora import save_adapter
from abliterate.training.robustness import ATTACK_PROMPTS

SHARED = (
    "dtype", "seed", "trust_remote_code", "revision", "harmful", "harmless", "system", "thinking", "chat_template", "date",
)  # fmt: skip
"""Options of every run that decide what hardening does; the others say where and how, or belong to edits."""


@dataclass(frozen=True)
class Hardened:
    """An adapter that was written, and what it does."""

    out: Path
    result: HardenResult


def harden_model(options: Options, harden_options: HardenOptions, progress: Progress = SILENT) -> Hardened:
    """Harden `options.model` by an adapter in `options.out`, with `hardened.json` and a model card.

    Raises InputError for settings out of range, options that hardening does not read, without the `peft` package, and for a model that does not fit into
    memory; NoRefusalsError for one that hardly refuses.
    """
    check_shared(options)
    require("train", "--mode harden", "peft")
    check_free(options.out, options.force)
    harmful, harmless = open_prompts(options)
    source = open_source(options, progress)
    check_destination(source.folder, options.out)
    chat = open_chat(options, load_tokenizer(source), tried=harmful.prompts[0])
    options = replace(options, date=chat.moment)
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    if streaming_of(model) is not None:
        raise InputError(f"{options.model}: does not fit into memory; hardening trains, so use a machine with more")
    result = harden(
        model,
        chat,
        harmful,
        harmless,
        steps=harden_options.steps,
        ablate_probability=harden_options.ablate_probability,
        rank=harden_options.rank,
        learning_rate=harden_options.learning_rate,
        batch_size=harden_options.batch_size,
        refresh=harden_options.refresh,
        seed=options.seed,
        progress=progress,
    )
    words = hardening_command(options, source, harden_options)
    numbers = json.dumps([asdict(harden_options), options.seed])
    identity = f"harden {source.checkpoint.fingerprint()} {numbers} {harmful.digest} {harmless.digest}"
    with Staging.open(options.out, identity, options.force) as staging:
        save_adapter(result.model, source, staging.folder, options.keep_paths)
        record = {
            **provenance("hardened", "adapter", source, words, ("torch", "transformers", "peft"), progress),
            "without_flag": without_flag(harden_options),
            "prompts": {"harmful": prompt_record(harmful, ATTACK_PROMPTS), "harmless": prompt_record(harmless, 0)},
            **keep_template(staging, chat.template),
            "dtype": str(model.dtype).removeprefix("torch."),
            "reply_tokens": REPLY_TOKENS,
            **result.to_json(),
        }
        write_record(staging, HARDENED, record, source)
        staging.write_text(SETTINGS, settings(source, options, harden_options))
        staging.publish()
    return Hardened(options.out, result)


def check_shared(options: Options) -> None:
    """Raise InputError for an option that has no part in hardening, unless it is at its default."""
    known = declarations(Options)
    for name in changed(options):
        if name not in (*SHARED, "mode") and not known[name].here:
            raise InputError(f"{flag_of(name, known[name])} has no part in --mode harden; leave it out")


def hardening_command(options: Options, source: Source, harden_options: HardenOptions) -> list[str]:
    """Return the command that repeats a hardening; folders of this machine stay out of it."""
    plain = Options(options.model, options.out, **{name: getattr(options, name) for name in SHARED})
    words = command(plain, source)
    return [*words[:2], "--mode", "harden", *words_of(harden_options), *words[2:]]


def prompt_record(prompts: PromptSet, selecting: int) -> dict[str, Any]:
    """Return what the record says of one side's prompts: which ones, and how many serve for what.

    At most `selecting` of them choose the attacker's layer.
    """
    counts = {name: len(prompts.side(name)) for name in ("train", "select", "report")}
    return {"spec": prompts.name, "digest": prompts.digest, **counts, "select": min(counts["select"], selecting)}
