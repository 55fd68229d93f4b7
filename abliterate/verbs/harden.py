"""`abliterate harden`: train an adapter under which refusal survives the edit, and measure that."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from abliterate.errors import InputError
from abliterate.loading import load_model
from abliterate.offload import streaming_of
from abliterate.progress import SILENT, Progress
from abliterate.prompts import check_pair, load_prompts
from abliterate.session import Options, read_template
from abliterate.source import load_tokenizer
from abliterate.staging import Staging, check_destination, check_free
from abliterate.template import ChatFormat
from abliterate.training.adapters import require_training
from abliterate.training.harden import HardenResult, harden
from abliterate.verbs.original import source_of

RECORD = "hardened.json"
"""Settings and figures, beside the adapter."""


@dataclass(frozen=True)
class Hardened:
    """An adapter that was written, and what it does."""

    out: Path
    result: HardenResult


def harden_model(options: Options, settings: Mapping[str, Any], progress: Progress = SILENT) -> Hardened:
    """Harden `options.model` by an adapter in `options.out`, a PEFT folder with `hardened.json`; `settings` as `harden`.

    Raises InputError for settings out of range, without the `peft` package, and for a model that does not fit into
    memory; NoRefusalsError for one that hardly refuses.
    """
    require_training("peft")
    check_free(options.out, options.force)
    harmful, harmless = (load_prompts(spec, offline=options.offline) for spec in (options.harmful, options.harmless))
    check_pair(harmful, harmless)
    source = source_of(options, options.model, progress)
    check_destination(source.folder, options.out)
    tokenizer = load_tokenizer(source)
    chat = ChatFormat(tokenizer, options.system, options.thinking, read_template(options.chat_template))
    chat.render(harmful.prompts[0])
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    if streaming_of(model) is not None:
        raise InputError(f"{options.model}: does not fit into memory; hardening trains, so use a machine with more")
    settings = {**settings, "seed": options.seed}
    result = harden(model, chat, harmful, harmless, **settings, progress=progress)
    identity = f"harden {source.checkpoint.fingerprint()} {json.dumps(settings)} {harmful.digest} {harmless.digest}"
    with Staging.open(options.out, identity, options.force) as staging:
        for config in result.model.peft_config.values():
            config.base_model_name_or_path = source.public_name
        result.model.save_pretrained(staging.folder, save_embedding_layers=False)  # it trains none
        (staging.folder / "README.md").unlink(missing_ok=True)  # a form to fill in
        record = {"source": source.public_name, "revision": source.revision, **result.to_json()}
        staging.write_text(RECORD, json.dumps(record, indent=2) + "\n")
        staging.publish()
    return Hardened(options.out, result)
