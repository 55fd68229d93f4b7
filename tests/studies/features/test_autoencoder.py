"""SAEs read from the folders of two libraries: their codes, their layer, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from abliterate.errors import InputError
from abliterate.studies.features.autoencoder import SparseAutoencoder
from fixtures.features import MANY, WIDE, K, random_sae, sparsify

STATES = torch.randn(30, WIDE, generator=torch.Generator().manual_seed(6))


def test_codes_keep_the_largest_and_none_below_zero() -> None:
    sae = random_sae()
    before = (STATES - sae.decoder_bias) @ sae.encoder + sae.encoder_bias
    codes = sae.encode(STATES)
    for row, own in zip(codes, before, strict=True):
        kept = own.argsort(descending=True)[:K].tolist()
        expected = {one: float(own[one]) for one in kept if own[one] > 0}
        assert {one: float(row[one]) for one in row.nonzero()[:, 0].tolist()} == pytest.approx(expected)
    assert torch.allclose(sae.decode(codes), codes @ sae.decoder + sae.decoder_bias)


def test_without_k_all_above_the_threshold_count() -> None:
    limit = torch.linspace(-1, 2, MANY)
    before = random_sae(active=None).encode(STATES)
    assert (before >= 0).all()
    jumped = random_sae(active=None, threshold=limit).encode(STATES)
    assert torch.equal(jumped, torch.where(before > limit.clamp(min=0), before, torch.zeros(())))


@pytest.mark.parametrize("changes", [{}, {"active": None}, {"active": None, "threshold": torch.rand(MANY)}])
@pytest.mark.parametrize("layer", [0, 1, 9])
def test_a_folder_that_was_saved_loads_as_it_was(tmp_path: Path, changes: dict[str, Any], layer: int) -> None:
    sae = random_sae(**changes, layer=layer, about={"unit": 2.5})
    sae.save(tmp_path)
    read = SparseAutoencoder.load(tmp_path)
    assert (read.layer, read.model, read.about) == (layer, "house/chat", {"unit": 2.5})
    assert torch.equal(read.encode(STATES), sae.encode(STATES))
    assert torch.equal(read.decoder, sae.decoder)


def test_a_folder_of_sparsify_gives_the_same_codes(tmp_path: Path) -> None:
    sae = random_sae()
    read = SparseAutoencoder.load(sparsify(tmp_path, sae))
    assert read.layer == 4  # behind block 3
    assert torch.equal(read.encode(STATES), sae.encode(STATES))


def test_a_folder_in_a_repository_of_the_hub_is_fetched_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random_sae().save(tmp_path / "layer_3" / "width_20")
    asked: list[Any] = []

    def fetched(model: str, revision: str | None, offline: bool, files: list[str]) -> Path:
        asked.append((model, offline, files))
        return tmp_path

    monkeypatch.setattr("abliterate.studies.features.autoencoder.download", fetched)
    assert SparseAutoencoder.load("org/saes/layer_3/width_20", offline=True).layer == 4
    below = "layer_3/width_20"
    assert asked == [
        ("org/saes", True, [f"{below}/cfg.json", f"{below}/sae_weights.safetensors", f"{below}/sae.safetensors"])
    ]
    for name in ("nothing", "./no/such/folder"):
        with pytest.raises(InputError, match="no such folder, and not a Hub id"):
            SparseAutoencoder.load(name)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; give the folder"):
        SparseAutoencoder.load(tmp_path / "file")


def rewritten(folder: Path, **changes: Any) -> Path:
    path = folder / "cfg.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    return folder


def test_what_the_config_says_of_biases_and_norms_is_folded_in(tmp_path: Path) -> None:
    sae = random_sae()
    sae.save(tmp_path)
    apart = SparseAutoencoder.load(rewritten(tmp_path, apply_b_dec_to_input=False))
    before = STATES @ sae.encoder + sae.encoder_bias
    top = before.topk(K).indices
    assert torch.allclose(apart.encode(STATES).gather(1, top), before.gather(1, top).relu(), atol=1e-5)
    scaled = SparseAutoencoder.load(rewritten(tmp_path, apply_b_dec_to_input=True, rescale_acts_by_decoder_norm=True))
    assert torch.allclose(scaled.decoder.norm(dim=1), torch.ones(MANY), atol=1e-6)
    long = sae.decoder.norm(dim=1)
    before = ((STATES - sae.decoder_bias) @ sae.encoder + sae.encoder_bias) * long
    top = before.topk(K).indices
    assert torch.allclose(scaled.encode(STATES).gather(1, top), before.gather(1, top).relu(), atol=1e-5)


def test_rows_are_unit_and_the_decoder_stays() -> None:
    sae = random_sae()
    kept = sae.decoder.clone()
    assert torch.allclose(sae.rows([3, 1]).norm(dim=1), torch.ones(2))
    assert torch.equal(sae.decoder, kept)


def torn(folder: Path) -> None:
    (folder / "sae_weights.safetensors").write_bytes(b"no tensors")


def pickled(folder: Path) -> None:
    (folder / "sae_weights.safetensors").rename(folder / "sae.pt")


def without_k(folder: Path) -> None:
    config = json.loads((folder / "cfg.json").read_text())
    del config["k"]
    (folder / "cfg.json").write_text(json.dumps(config))


def without_decoder(folder: Path) -> None:
    tensors = load_file(folder / "sae_weights.safetensors")
    del tensors["W_dec"]
    save_file(tensors, folder / "sae_weights.safetensors")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (torn, "cannot be read"),
        (pickled, "sae.pt is pickled, and may run code"),
        (without_k, "does not tell how many features are active"),
        (without_decoder, "has no decoder.weight"),
        (lambda folder: (folder / "cfg.json").unlink(), "has no cfg.json"),
        (lambda folder: (folder / "cfg.json").write_text("[1]"), "is no object"),
        (lambda folder: rewritten(folder, architecture="gated"), "is of the kind 'gated'"),
        (lambda folder: rewritten(folder, normalize_activations="layer_norm"), "normalize_activations = 'layer_norm'"),
        (lambda folder: rewritten(folder, k=MANY + 1), "keeps 21 of its 20 features"),
    ],
)
def test_what_cannot_be_read_is_refused_in_one_line(tmp_path: Path, spoil: Callable[[Path], Any], said: str) -> None:
    random_sae().save(tmp_path)
    spoil(tmp_path)
    with pytest.raises(InputError, match=said) as error:
        SparseAutoencoder.load(tmp_path)
    assert "\n" not in str(error.value)


def test_an_sae_of_another_width_layer_or_model_is_refused_with_all_three() -> None:
    sae = random_sae()
    assert sae.check("house/chat", WIDE, 8) == 4
    for given in ((896, 24, None), (WIDE, 8, 5), (WIDE, 3, None)):
        with pytest.raises(InputError) as error:
            sae.check("other/chat", *given)
        for part in ("resid[4]", "house/chat", "12 wide", "other/chat", str(given[0])):
            assert part in str(error.value)
    with pytest.raises(InputError, match="say with --layer"):
        random_sae(layer=None).check("house/chat", WIDE, 8)
    assert random_sae(layer=None).check("house/chat", WIDE, 8, 2) == 2


def test_features_that_are_not_there_are_refused() -> None:
    sae = random_sae()
    with pytest.raises(InputError, match="features 0 to 19"):
        sae.rows([20])
    sae.decoder[2] = 0
    with pytest.raises(InputError, match="feature 2 writes nothing"):
        sae.rows([2])
    with pytest.raises(InputError, match="states are 7 wide"):
        sae.encode(torch.zeros(1, 7))


@pytest.mark.filterwarnings("ignore")
def test_codes_are_those_of_sae_lens(tmp_path: Path) -> None:
    pytest.importorskip("sae_lens", reason="sae-lens is not installed (extra features)")
    from sae_lens import SAE, TopKSAE, TopKSAEConfig  # type: ignore[import-not-found]

    theirs = TopKSAE(
        TopKSAEConfig(d_in=WIDE, d_sae=MANY, k=K, dtype="float32", device="cpu", rescale_acts_by_decoder_norm=True)
    )
    own = random_sae()
    theirs.load_state_dict(
        {"W_enc": own.encoder, "b_enc": own.encoder_bias, "W_dec": own.decoder, "b_dec": own.decoder_bias}
    )
    theirs.cfg.metadata.hook_name = "blocks.3.hook_resid_post"
    theirs.save_model(tmp_path / "theirs")
    read = SparseAutoencoder.load(tmp_path / "theirs")
    assert read.layer == 4
    assert torch.allclose(read.encode(STATES), theirs.encode(STATES), atol=1e-5)
    assert torch.allclose(read.decode(read.encode(STATES)), theirs(STATES), atol=1e-5)
    own.save(tmp_path / "ours")
    again = SAE.load_from_disk(tmp_path / "ours")
    assert torch.allclose(own.encode(STATES), again.encode(STATES), atol=1e-5)
