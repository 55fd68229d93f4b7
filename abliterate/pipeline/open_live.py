"""A live model, and how it is asked, as the options say: for whoever brings own texts. All is checked before weights are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace

from abliterate.models.batches import model_device
from abliterate.models.live_model import LiveModel
from abliterate.models.loading import load_model
from abliterate.models.source import Source, load_tokenizer
from abliterate.parallel.devices import hardware
from abliterate.pipeline.corpus_options import CorpusOptions
from abliterate.pipeline.open_model import open_model, open_source
from abliterate.pipeline.open_prompts import open_chat
from abliterate.progress import SILENT, Progress
from abliterate.storage.cache import cache_folder
from abliterate.storage.record_log import Unfinished, code_digest, digest


@dataclass(frozen=True)
class OpenedLive:
    """A model ready to be asked, where it came from, and what an interrupted command has left."""

    source: Source
    live: LiveModel
    kept: Unfinished

    @property
    def dtype(self) -> str:
        """Return what the model runs in."""
        return str(self.live.model.dtype).removeprefix("torch.")


def open_live(name: str, options: CorpusOptions, progress: Progress = SILENT) -> OpenedLive:
    """Open the model that the options name, for a command of this name. Raises what `open_model` raises."""
    options.check()
    source = open_source(options, progress)
    chat = open_chat(options, load_tokenizer(source))
    opened = open_model(options, progress, source)
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    live = LiveModel(model, chat, opened.architecture, options.batch_size, progress=progress)
    asked = repr(replace(options, date=chat.moment, out=None, offline=False))
    identity = [
        name,
        asked,
        source.checkpoint.fingerprint(),
        hardware(model_device(model)),
        str(model.dtype),
        code_digest(),
    ]
    return OpenedLive(source, live, Unfinished(cache_folder() / "studies" / digest(identity)))
