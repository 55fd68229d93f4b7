"""Captured activations, kept on disk under what they were captured from."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import transformers
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from abliterate.models.batches import BatchSize
from abliterate.storage.atomic import written_whole
from abliterate.storage.own_files import is_own_file, own_folder


@dataclass(frozen=True)
class ActivationCache:
    """A folder of captured activations, for one model whose weights are `identity`."""

    folder: Path
    identity: str

    def path(
        self,
        sequences: Sequence[Sequence[int]],
        positions: Sequence[int] | Sequence[Sequence[int]],
        dtype: torch.dtype,
        batch_size: BatchSize = "auto",
        device: str = "cpu",
    ) -> Path:
        """Return the file for these token ids: its name is the hash of all that the activations depend on.

        `positions` are those of every sequence, or say more than one list can. In other batches, and on another kind of
        device, sums are rounded otherwise: a run that took such activations would not come out the same to the bit.
        """
        key = json.dumps(
            [
                self.identity,
                str(dtype),
                [one if isinstance(one, int) else list(one) for one in positions],
                [list(sequence) for sequence in sequences],
                transformers.__version__,
                batch_size,
                device,
            ]
        )
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()}.safetensors"


def read_cached(path: Path, shape: Sequence[int] | None = None, dtype: torch.dtype | None = None) -> Tensor | None:
    """Return the cached activations, or None when there are none; a damaged file counts as none and is removed.

    So does one that holds something of another shape or dtype than is wanted, or numbers that are not finite. One that
    cannot be reached counts as none too: whoever then writes it is told why.
    """
    try:
        if not is_own_file(path):
            return None
        try:
            with safe_open(path, framework="pt") as file:
                resid: Tensor = file.get_tensor("resid")
            fits = (shape is None or resid.shape == torch.Size(shape)) and (dtype is None or resid.dtype == dtype)
            if fits and bool(torch.isfinite(resid).all()):
                return resid
        except SafetensorError:
            pass  # damaged: removed as what does not fit
        path.unlink()
        return None
    except OSError:
        return None


def write_cached(path: Path, resid: Tensor) -> None:
    """Write the activations so that a killed run leaves no half file under the final name.

    Raises OSError where they cannot be written.
    """
    own_folder(path.parent)
    try:
        with written_whole(path) as partial:
            save_file({"resid": resid}, partial)
    except SafetensorError as error:  # as safetensors calls a full disk
        raise OSError(str(error)) from error
