"""What a study works on: a live model, phrases, forms, and what an interrupted study has left. All is checked before weights are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from abliterate.errors import InputError
from abliterate.models.batches import model_device
from abliterate.models.limits import check_memory, check_readable
from abliterate.models.live_model import LiveModel
from abliterate.models.loading import load_model
from abliterate.models.offload import room_left
from abliterate.models.source import Source, load_tokenizer
from abliterate.parallel.devices import hardware
from abliterate.pipeline.open_model import open_model, open_source
from abliterate.pipeline.open_prompts import open_chat
from abliterate.pipeline.study_options import QUICK_FORMS, QUICK_NOTE, QUICK_PHRASES, StudyOptions
from abliterate.progress import SILENT, Progress
from abliterate.prompts.chat_format import ChatFormat
from abliterate.prompts.forms import Form, Forms, load_forms
from abliterate.prompts.phrases import Phrases, load_phrases
from abliterate.prompts.template import source_of
from abliterate.prompts.texts import texts_of
from abliterate.storage.cache import cache_folder
from abliterate.storage.record_log import Unfinished, code_digest, digest
from abliterate.studies.common import Verdict
from abliterate.studies.record import StudyRecord, write_study

NO_TEMPLATE = "{% for message in messages %}{{ message.content }}{% endfor %}"
"""Stands for the template of a model that has none, of which raw forms ask nothing."""


@dataclass(frozen=True)
class OpenedStudy:
    """A model ready to be asked, what it is asked, and what is known of both before any answer."""

    name: str
    options: StudyOptions
    source: Source
    live: LiveModel
    phrases: Phrases
    forms: Forms
    kept: Unfinished
    notes: tuple[str, ...] = ()

    def record(
        self,
        settings: Mapping[str, Any],
        results: Mapping[str, Any],
        controls: Mapping[str, Any],
        verdicts: Sequence[Verdict],
        notes: Sequence[str] = (),
    ) -> StudyRecord:
        """Return the record of what was found; a quick study has no verdicts, and says so in their place."""
        options = self.options
        if options.quick:
            verdicts = [replace(one, verdict=QUICK_NOTE) for one in verdicts]
        common = {
            "phrases": {"spec": self.phrases.name, "count": len(self.phrases), "language": self.phrases.language},
            "forms": {"spec": self.forms.name, "names": list(self.forms.names)},
            "samples": options.samples,
            "quick": options.quick,
            "system": options.system,
            "thinking": options.thinking,
            "date": self.live.chat.moment,
        }
        return StudyRecord(
            self.name,
            self.source.public_name,
            self.source.revision,
            str(self.live.model.dtype).removeprefix("torch."),
            {"forms": self.forms.digest, "phrases": self.phrases.digest},
            options.seed,
            {**common, **settings},
            results,
            controls,
            tuple(verdicts),
            (*([QUICK_NOTE] if options.quick else []), *self.notes, *notes, *self.kept.notes),
        )

    def finish(
        self,
        record: StudyRecord,
        vectors: Mapping[str, Float[Tensor, " d_model"]],
        replies: Sequence[Mapping[str, Any]],
    ) -> Path | None:
        """Write the study where --out says, forget what was kept of it, and return the record's path.

        Raises InputError where the folder cannot be written: what was kept then stays.
        """
        out = self.options.out
        path = None if out is None else write_study(out, record, vectors, replies)
        self.kept.remove()
        return path


def open_study(
    name: str, options: StudyOptions, reply_tokens: int, progress: Progress = SILENT, framed: Forms | None = None
) -> OpenedStudy:
    """Open the model that a study asks, and what it is asked: in the forms that the options name, or those that are given.

    Raises InputError for phrases, forms and options that cannot be read or do not fit each other or the model, what
    `open_model` raises, and InputError for texts that the model cannot read.
    """
    options.check()
    phrases, forms = asked(options)
    forms = framed or forms
    source = open_source(options, progress)
    tokenizer = load_tokenizer(source)
    chat, forms, notes = chat_and_forms(options, tokenizer, forms)
    options = replace(options, date=chat.moment)
    texts = check_texts(chat, phrases, forms)
    opened = open_model(options, progress, source)
    said = [str(tokenizer.decode(list(tokens))) for tokens in texts]
    check_readable(opened.empty, said, texts, reply_tokens)
    model = load_model(source, options.dtype, options.device, max_memory=options.max_memory)
    if model_device(model).type == "cpu":
        check_memory(model, said, texts, room_left(None))
    live = LiveModel(model, chat, opened.architecture, options.batch_size, progress=progress)
    computed_by = [version(one) for one in ("torch", "transformers")]
    asked_for = repr(replace(options, out=None, offline=False))
    identity = [name, asked_for, phrases.digest, forms.digest, source.checkpoint.fingerprint(), computed_by]
    machine = [hardware(model_device(model)), str(model.dtype), code_digest()]
    kept = Unfinished(cache_folder() / "studies" / digest([*identity, *machine]))
    return OpenedStudy(name, options, source, live, phrases, forms, kept, (*source.oddities, *notes))


def asked(options: StudyOptions) -> tuple[Phrases, Forms]:
    """Return phrases and forms, few of both for a quick study. Raises InputError where they cannot be read."""
    phrases = load_phrases(options.phrases, language=options.language)
    forms = load_forms(options.forms, language=options.language)
    if options.only:
        return phrases.first(QUICK_PHRASES) if options.quick else phrases, forms.choose(options.only)
    if not options.quick:
        return phrases, forms
    return phrases.first(QUICK_PHRASES), Forms(forms.spec, quick_forms(forms.forms))


def quick_forms(forms: Sequence[Form]) -> tuple[Form, ...]:
    """Return the first finished form, the first unfinished one, the first unfinished one elsewhere, and else the first ones."""
    chosen: list[Form] = []
    for sentence in ("complete", "incomplete", "incomplete"):
        taken = {one.where for one in chosen if one.sentence == sentence}
        rest = [one for one in forms if one.sentence == sentence and one.where not in taken]
        chosen += rest[:1]
    chosen += [one for one in forms if one not in chosen][: QUICK_FORMS - len(chosen)]
    return tuple(one for one in forms if one in chosen)


def chat_and_forms(
    options: StudyOptions, tokenizer: PreTrainedTokenizerBase, forms: Forms
) -> tuple[ChatFormat, Forms, tuple[str, ...]]:
    """Return how prompts are put to the model, the forms that can be, and a note where others were left out.

    A model without a chat template is asked raw forms only. Raises InputError where there are none.
    """
    if options.chat_template is not None or source_of(tokenizer.chat_template):
        return open_chat(options, tokenizer), forms, ()
    raw = [form.name for form in forms if form.where == "raw"]
    if not raw:
        raise InputError(
            'the model has no chat template, and none of the forms is where = "raw"; pass --chat-template FILE, or --forms '
            "with raw forms"
        )
    left = ", ".join(name for name in forms.names if name not in raw)
    note = (
        f"the model has no chat template: raw forms only, without {left}" if left else "the model has no chat template"
    )
    return ChatFormat(tokenizer, template=NO_TEMPLATE), forms.choose(raw), (note,)


def check_texts(chat: ChatFormat, phrases: Phrases, forms: Forms) -> list[tuple[int, ...]]:
    """Return the token ids of all texts. Raises InputError for a form that cannot be put, and for two that render alike."""
    rendered: dict[tuple[tuple[int, ...], ...], str] = {}
    every: list[tuple[int, ...]] = []
    for form in forms:
        both = [[text.tokens for text in texts_of(chat, form, phrases, side)] for side in ("harmful", "harmless")]
        other = rendered.setdefault(tuple(both[0]), form.name)
        if other != form.name:
            raise InputError(
                f"the forms {other} and {form.name} render alike for this model; leave one of them away with --forms"
            )
        every += [*both[0], *both[1]]
    return every
