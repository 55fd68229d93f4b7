"""The forms in which an edit can be written."""

from __future__ import annotations

from typing import Literal, get_args

SavedForm = Literal["checkpoint", "adapter", "gguf-adapter"]
SAVED_FORMS: tuple[SavedForm, ...] = get_args(SavedForm)

ExportForm = Literal["adapter", "gguf-adapter", "control-vector"]
EXPORT_FORMS: tuple[ExportForm, ...] = get_args(ExportForm)

USE = {
    "adapter": "PeftModel.from_pretrained(model, {out!r}), or abliterate evaluate {out} --against ORIGINAL",
    "gguf-adapter": "llama-server -m MODEL.gguf --lora {out}",
    "control-vector": "llama-server -m MODEL.gguf --control-vector-scaled {out}:-1 (1 adds the difference, -1 takes it away)",
}
