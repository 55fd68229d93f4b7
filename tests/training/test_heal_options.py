"""How to heal."""

from __future__ import annotations

from dataclasses import fields

import pytest

from abliterate.errors import InputError
from abliterate.records.option import declarations, flag_of, names_of
from abliterate.training.examples import TRAINING_METHODS
from abliterate.training.heal_options import RATES, HealOptions


def test_each_method_has_its_own_rate_unless_one_is_given() -> None:
    assert set(RATES) == set(TRAINING_METHODS)
    for method in TRAINING_METHODS:
        assert HealOptions(method).rate == RATES[method]
        assert HealOptions(method, learning_rate=0.5).rate == 0.5


TRL = {
    "--learning-rate": "learning_rate", "--num-train-epochs": "num_train_epochs", "--max-steps": "max_steps",
    "--per-device-train-batch-size": "per_device_train_batch_size", "--max-length": "max_length", "--beta": "beta",
    "--gradient-accumulation-steps": "gradient_accumulation_steps", "--seed": "seed", "--lora-r": "lora_r",
    "--lora-alpha": "lora_alpha",
}  # fmt: skip
"""Flags by the name of what trl's configs call the same."""

OWN = {"--method", "--adapter", "--limit", "--steps"}

FLAGS = {name: flag_of(name, one) for name, one in declarations(HealOptions).items()}


def test_every_option_has_a_flag_and_trl_calls_it_the_same() -> None:
    assert all(one.offered for one in declarations(HealOptions).values())
    assert {word for flag in FLAGS.values() for word in names_of(flag)} == {*TRL, *OWN}
    trl = pytest.importorskip("trl")
    known = {one.name for kind in (trl.SFTConfig, trl.DPOConfig, trl.ModelConfig) for one in fields(kind)}
    assert set(TRL.values()) <= known


@pytest.mark.parametrize("name", sorted(set(FLAGS) - {"method", "adapter", "seed"}))
@pytest.mark.parametrize("value", [0, -1])
def test_values_out_of_range_are_named_by_their_flag(name: str, value: int) -> None:
    given = float(value) if name in ("learning_rate", "epochs", "beta") else value
    with pytest.raises(InputError, match=f"{FLAGS[name]} {given}: must be above 0"):
        HealOptions("dpo", **{name: given})  # type: ignore[arg-type]


def test_what_dpo_alone_reads_is_refused_with_sft() -> None:
    assert HealOptions("dpo", beta=0.2).beta == 0.2
    with pytest.raises(InputError, match="--beta: is of --method dpo; leave it away"):
        HealOptions(beta=0.2)


def test_an_unknown_method_is_refused() -> None:
    with pytest.raises(InputError, match="ppo"):
        HealOptions("ppo")
