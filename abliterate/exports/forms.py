"""The forms in which an edit can be written beside a checkpoint: one table. Imports nothing that takes time.

A form is a module with a function `export_form(export: Export) -> Written`, and a line below. One that `run --save` offers
has `check_form(edit: PlannedEdit, leave_out: Collection[Site]) -> None` too, which refuses without reading weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from abliterate.extras import require

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from jaxtyping import Float
    from torch import Tensor
    from transformers import PretrainedConfig

    from abliterate.architectures.architecture import Architecture
    from abliterate.architectures.sites import Site
    from abliterate.edits.plan import EditPlan
    from abliterate.models.source import Source
    from abliterate.progress import Progress
    from abliterate.proofs.stream import StreamReport
    from abliterate.storage.staging import Staging


@dataclass(frozen=True)
class PlannedEdit:
    """An edit resolved on its original."""

    plan: EditPlan
    architecture: Architecture
    source: Source


@dataclass(frozen=True)
class Written:
    """What the writer of a form says of it: the proof where there is one, and notes."""

    proof: StreamReport | None = None
    notes: tuple[str, ...] = ()


@runtime_checkable
class Export(Protocol):
    """An edit on its way into another form: where to, and what a form may ask for; nothing is opened before it is."""

    @property
    def out(self) -> Path:
        """Where the file or folder shall be: nothing is there, or it may be replaced (`force`)."""

    @property
    def force(self) -> bool:
        """Whether `out` may be replaced."""

    @property
    def leave_out(self) -> tuple[Site, ...]:
        """Sites that the user leaves out."""

    @property
    def keep_paths(self) -> bool:
        """Whether an adapter may name its model by a path of this machine."""

    @property
    def base(self) -> Path | None:
        """The GGUF file that the form goes with, where the user named it."""

    @property
    def progress(self) -> Progress:
        """Where progress goes."""

    def planned(self) -> PlannedEdit:
        """Open the original, prove its architecture and resolve the edit on it. Raises AbliterateError."""

    def differences(self) -> tuple[Mapping[int, Float[Tensor, " d_model"]], tuple[int, ...], PretrainedConfig]:
        """Return the differences in means by layer, the layers that are asked for, and the original's config."""

    def as_adapter(self, edit: PlannedEdit, nbytes: int, write: Callable[[Staging], None]) -> StreamReport:
        """Write a PEFT adapter folder with its records, once the original with it is proved to be the hook form."""


@dataclass(frozen=True)
class ExportForm:
    """A form: who writes it, what it is for, whether it is a folder or a file, and how it is used.

    `package` is what it needs, of the extra `extra`; in `use`, `{out}` is what was written. `saved_as` is what
    `run --save` calls it inside the run's folder; None where it does not offer it.
    """

    module: str
    reader: str
    folder: bool
    extra: str
    package: str
    use: str
    saved_as: str | None = None

    def require(self, flag: str) -> None:
        """Raise InputError, naming the flag that asks for the form, where what it needs is not installed."""
        require(self.extra, flag, self.package)

    def check(self, edit: PlannedEdit, leave_out: Collection[Site]) -> None:
        """Raise InputError where the form could not hold an edit, whatever its direction; before any weights are loaded."""
        import_module(self.module).check_form(edit, leave_out)

    def write(self, export: Export) -> Written:
        """Write the form. Raises InputError where it cannot hold the edit."""
        written = import_module(self.module).export_form(export)
        assert isinstance(written, Written)
        return written


EXPORT_FORMS: dict[str, ExportForm] = {
    "adapter": ExportForm(
        "abliterate.exports.peft_adapter", "PEFT", True, "train", "peft",
        "PeftModel.from_pretrained(model, {out!r}), or abliterate evaluate {out} --against ORIGINAL", "adapter",
    ),
    "gguf-adapter": ExportForm(
        "abliterate.exports.gguf_adapter", "llama.cpp", False, "gguf", "gguf",
        "llama-server -m MODEL.gguf --lora {out}", "adapter.gguf",
    ),
    "control-vector": ExportForm(
        "abliterate.exports.control_vector", "llama.cpp", False, "gguf", "gguf",
        "llama-server -m MODEL.gguf --control-vector-scaled {out}:-1 (1 adds the difference, -1 takes it away)",
    ),
}  # fmt: skip
"""The forms by the words of --to."""

LEAVING_OUT = "gguf-adapter"
"""The form that can do without a site."""

SAVED_FORMS = ("checkpoint", *(name for name, form in EXPORT_FORMS.items() if form.saved_as))
"""The words of --save."""


def described(names: tuple[str, ...]) -> str:
    """Return forms by commas, each with what reads it."""
    known = {name: f"{name} ({EXPORT_FORMS[name].reader})" for name in names if name in EXPORT_FORMS}
    return ", ".join(known.get(name, name) for name in names)
