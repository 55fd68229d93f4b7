"""A sparse autoencoder as a value: four tensors, read from the folders that SAELens and sparsify write, with `encode`.

`z = f((x - b_dec) W_enc + b_enc)`, `x^ = z W_dec + b_dec` (Gao et al. 2024, arXiv 2406.04093): `f` keeps the k largest and
none below 0 (Top-K), or all above a threshold. Only safetensors are read, and no other package is needed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from abliterate.errors import InputError, first_line
from abliterate.hub.download import download
from abliterate.projection import ZERO_LENGTH, normalize
from abliterate.storage.foreign_files import read_json, require_file

CONFIG, SAELENS, SPARSIFY = "cfg.json", "sae_weights.safetensors", "sae.safetensors"
"""The files of an SAE: what it is, and its weights as each of the two libraries calls them."""

PICKLES = (".pt", ".pth", ".bin", ".pkl", ".ckpt", ".npz", ".npy")

HOOK = re.compile(r"(?:^|\.)(?:blocks|layers|h)\.(\d+)(?:\.hook_resid_(post|pre))?(?:$|\.)")
"""How the libraries name a place in the stream: a block's output, unless it says that it is before the block."""

ROWS_AT_ONCE = 1024
"""States encoded at once: codes are wide."""


@dataclass(frozen=True)
class SparseAutoencoder:
    """Encoder, decoder and their biases in float32; `active` is the k of Top-K, None where all above `threshold` count.

    `layer` says which `resid[layer]` it reads, `model` whose, where its folder tells; `about` is what else that says.
    `SparseAutoencoder.load` reads one from a folder or the Hub.

    Examples:
        >>> sae = SparseAutoencoder(torch.eye(3), torch.zeros(3), 2 * torch.eye(3), torch.zeros(3), active=1)
        >>> sae.encode(torch.tensor([[3.0, 5.0, -9.0]]))
        tensor([[0., 5., 0.]])
        >>> sae.rows([1])  # as long as 1, whatever the decoder
        tensor([[0., 1., 0.]])
    """

    encoder: Float[Tensor, "d_model features"]
    encoder_bias: Float[Tensor, " features"]
    decoder: Float[Tensor, "features d_model"]
    decoder_bias: Float[Tensor, " d_model"]
    active: int | None = None
    threshold: Float[Tensor, " features"] | None = None
    layer: int | None = None
    model: str | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        wide, many = self.encoder.shape
        for name, one, shape in (
            ("b_enc", self.encoder_bias, (many,)),
            ("W_dec", self.decoder, (many, wide)),
            ("b_dec", self.decoder_bias, (wide,)),
        ):
            if tuple(one.shape) != shape:
                raise InputError(f"{name} of the SAE has shape {tuple(one.shape)}, and its W_enc asks for {shape}")
        for name, one in (("W_enc", self.encoder), ("b_enc", self.encoder_bias), ("W_dec", self.decoder)):
            if not bool(torch.isfinite(one).all()):
                raise InputError(f"{name} of the SAE holds NaN or infinity; load another copy of it")
        if self.active is not None and not 1 <= self.active <= many:
            raise InputError(f"the SAE keeps {self.active} of its {many} features; give a k from 1 to {many}")

    @property
    def d_model(self) -> int:
        """Return the width of the stream that it reads."""
        return self.encoder.shape[0]

    @property
    def features(self) -> int:
        """Return how many features it has."""
        return self.encoder.shape[1]

    def encode(self, states: Float[Tensor, "*rows d_model"]) -> Float[Tensor, "*rows features"]:
        """Return how strongly each feature is active in each state. Raises InputError for states of another width."""
        if states.shape[-1] != self.d_model:
            raise InputError(f"states are {states.shape[-1]} wide, and the SAE reads {self.d_model}")
        before = (states.float() - self.decoder_bias) @ self.encoder + self.encoder_bias
        if self.active is not None:
            values, places = before.topk(self.active, dim=-1)
            return torch.zeros_like(before).scatter_(-1, places, values.relu())
        least = torch.zeros(self.features) if self.threshold is None else self.threshold
        return torch.where(before > least, before, torch.zeros(())).relu()

    def decode(self, codes: Float[Tensor, "*rows features"]) -> Float[Tensor, "*rows d_model"]:
        """Return the states that codes stand for."""
        return codes @ self.decoder + self.decoder_bias

    def rows(self, chosen: Sequence[int]) -> Float[Tensor, "chosen d_model"]:
        """Return the directions that some features write along, as unit rows.

        The decoder itself is left as it is: were all its rows made unit, Top-K would choose others. Raises InputError for a
        feature that is not there, and for one whose row has no direction.
        """
        for one in chosen:
            if not 0 <= one < self.features:
                raise InputError(f"feature {one} is not there; the SAE has features 0 to {self.features - 1}")
            if float(self.decoder[one].norm()) <= ZERO_LENGTH:
                raise InputError(f"feature {one} writes nothing: its decoder row is zero; choose another")
        return normalize(self.decoder[list(chosen)])

    def check(self, name: str, d_model: int, depth: int, layer: int | None = None) -> int:
        """Return the layer whose `resid` it reads. Raises InputError for an SAE of another width, layer or model.

        `name` is the model that it shall read, `layer` the one that the user asks for, where it does.
        """
        own = self.layer if layer is None else layer
        told = f"the SAE reads resid[{self.layer if self.layer is not None else '?'}] of {self.model or 'a model that it does not name'}, {self.d_model} wide"
        asked = f"{name} has resid[0] to resid[{depth}], {d_model} wide"
        if self.d_model != d_model:
            raise InputError(f"{told}; {asked}: take an SAE of this model")
        if own is None:
            raise InputError(f"{told}; {asked}: say with --layer which of them it was made of")
        if not 0 <= own <= depth or (self.layer is not None and layer is not None and layer != self.layer):
            raise InputError(f"{told}; {asked}: --layer {own} is not its layer")
        return own

    @classmethod
    def load(cls, name: str | Path, layer: int | None = None, *, offline: bool = False) -> SparseAutoencoder:
        """Read a folder that SAELens or sparsify wrote, or one on the Hub: `org/name`, or `org/name/folder/in/it`.

        `layer` where the folder does not tell it. Raises InputError for pickled weights, a kind of SAE that is not read,
        states that it wants normalised first, and whatever is torn or missing.
        """
        folder = folder_of(str(name), offline)
        config = config_of(folder)
        weights = weights_of(folder)
        return made_of(weights, config, layer_of(config, folder) if layer is None else layer, str(name))

    def save(self, folder: Path) -> None:
        """Write the folder as SAELens writes and reads one; each feature's codes and the decoder stay as they are."""
        kind = "topk" if self.active is not None else "standard" if self.threshold is None else "jumprelu"
        hook = (
            None
            if self.layer is None
            else f"blocks.{max(self.layer - 1, 0)}.hook_resid_{'post' if self.layer else 'pre'}"
        )
        config = {
            "architecture": kind, "d_in": self.d_model, "d_sae": self.features, "dtype": "float32", "device": "cpu",
            "apply_b_dec_to_input": True, "normalize_activations": "none", "reshape_activations": "none",
            **({"k": self.active, "rescale_acts_by_decoder_norm": False} if self.active is not None else {}),
            "metadata": {"hook_name": hook, "model_name": self.model, "abliterate": dict(self.about)},
        }  # fmt: skip
        tensors = {"W_enc": self.encoder, "b_enc": self.encoder_bias, "W_dec": self.decoder, "b_dec": self.decoder_bias}
        if self.threshold is not None:
            tensors["threshold"] = self.threshold
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: one.contiguous() for name, one in tensors.items()}, folder / SAELENS)
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")


def folder_of(name: str, offline: bool) -> Path:
    """Return the folder of an SAE, fetched from the Hub where it lies there. Raises InputError where there is none."""
    path = Path(name).expanduser()
    if path.is_dir():
        return path
    if path.exists():
        raise InputError(f"{name}: is a file; give the folder that holds {CONFIG} and the weights of the SAE")
    parts = name.split("/")
    if len(parts) < 2 or name.startswith((".", "/", "~")):
        raise InputError(f"{name}: no such folder, and not a Hub id of the form org/name or org/name/folder")
    below = "/".join(parts[2:])
    wanted = [f"{below}/{one}" if below else one for one in (CONFIG, SAELENS, SPARSIFY)]
    return download("/".join(parts[:2]), None, offline, wanted) / below


def config_of(folder: Path) -> dict[str, Any]:
    """Return what the folder says of its SAE. Raises InputError where it says nothing."""
    try:
        config = read_json(folder / CONFIG)
    except FileNotFoundError:
        refuse_pickles(folder)
        raise InputError(f"{folder}: has no {CONFIG}; give a folder that SAELens or sparsify wrote") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{folder / CONFIG}: cannot be read ({first_line(error)})") from error
    if not isinstance(config, dict):
        raise InputError(f"{folder / CONFIG}: is no object; give a folder that SAELens or sparsify wrote")
    return config


def refuse_pickles(folder: Path) -> None:
    """Raise InputError where weights are there, but pickled: reading those runs code."""
    pickled = sorted(one.name for one in folder.iterdir() if one.suffix in PICKLES)
    if pickled:
        raise InputError(
            f"{folder}: {pickled[0]} is pickled, and may run code when it is read; save the SAE as safetensors "
            "(save_model of SAELens does)"
        )


def weights_of(folder: Path) -> dict[str, Tensor]:
    """Return the tensors of an SAE. Raises InputError where they are missing, pickled or torn."""
    path = next((folder / one for one in (SAELENS, SPARSIFY) if (folder / one).exists()), None)
    if path is None:
        refuse_pickles(folder)
        raise InputError(f"{folder}: has neither {SAELENS} nor {SPARSIFY}; give the folder of one SAE")
    try:
        require_file(path)
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({first_line(error)}); fetch it again") from error


def made_of(
    weights: Mapping[str, Tensor], config: Mapping[str, Any], layer: int | None, name: str
) -> SparseAutoencoder:
    """Return the SAE of these tensors, in the one form that is used here. Raises InputError for a kind that is not read."""
    metadata = config.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    kind = config.get("architecture") or config.get("activation") or "topk"
    if kind not in ("topk", "standard", "relu", "jumprelu") or config.get("skip_connection") or config.get("transcode"):
        raise InputError(f"{name}: is of the kind {kind!r}; Top-K, standard and JumpReLU SAEs of one place are read")
    for what, usual in (("normalize_activations", "none"), ("reshape_activations", "none")):
        if config.get(what) not in (None, usual):
            raise InputError(f"{name}: has {what} = {config[what]!r}; fold that into its weights first")
    encoder = weights["W_enc"] if "W_enc" in weights else found(weights, "encoder.weight", name).T
    decoder = weights["W_dec"] if "W_dec" in weights else found(weights, "decoder.weight", name).T
    if decoder.shape != encoder.T.shape and decoder.T.shape == encoder.T.shape:
        decoder = decoder.T  # sparsify has written both
    many, wide = decoder.shape
    bias = weights.get("b_enc", weights.get("encoder.bias", torch.zeros(many)))
    shift = weights.get("b_dec", weights.get("decoder.bias", torch.zeros(wide)))
    if config.get("apply_b_dec_to_input") is False:
        bias = bias + shift @ encoder  # (x - b) W + (c + b W) = x W + c
    if config.get("rescale_acts_by_decoder_norm"):
        long = decoder.norm(dim=1)
        encoder, bias, decoder = encoder * long, bias * long, decoder / long[:, None]
    active = config.get("k") if kind == "topk" else None
    if kind == "topk" and (not isinstance(active, int) or isinstance(active, bool)):
        raise InputError(f"{name}: its {CONFIG} does not tell how many features are active (k)")
    about = metadata.get("abliterate")
    return SparseAutoencoder(
        encoder.contiguous(), bias, decoder.contiguous(), shift, active,
        found(weights, "threshold", name) if kind == "jumprelu" else None, layer,
        metadata.get("model_name") or config.get("model_name"), about if isinstance(about, dict) else {},
    )  # fmt: skip


def found(weights: Mapping[str, Tensor], wanted: str, name: str) -> Tensor:
    """Return a tensor of an SAE. Raises InputError where it is missing."""
    if wanted not in weights:
        raise InputError(f"{name}: has no {wanted}; it has {', '.join(sorted(weights)) or 'no tensors'}")
    return weights[wanted]


def layer_of(config: Mapping[str, Any], folder: Path) -> int | None:
    """Return which `resid` an SAE reads by its own words, or by its folder's name as sparsify gives it; None where none says."""
    metadata = config.get("metadata")
    hook = (metadata if isinstance(metadata, dict) else {}).get("hook_name") or config.get("hook_name") or folder.name
    named = HOOK.search(str(hook))
    return None if named is None else int(named[1]) + (named[2] != "pre")
