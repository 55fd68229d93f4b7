"""The list of architectures: a representative third in every run, all of it by `pytest -m sweep`, and the table of docs/architectures.md."""

from __future__ import annotations

import pytest
import transformers

from abliterate.cli.architectures import architectures_markdown
from abliterate.errors import InputError
from abliterate.proofs.census import Entry, model_types, multimodal_types, prove_each, prove_one
from fixtures.folders import PROJECT

PAGE = PROJECT / "docs" / "architectures.md"

DENSE = [
    "llama",
    "mistral",
    "qwen2",
    "qwen3",
    "phi3",
    "smollm3",
    "seed_oss",
    "nemotron",
    "stablelm",
    "granite",
    "bitnet",
]
OLDER = ["gpt2", "gpt_neo", "gpt_neox", "gptj", "gpt_bigcode", "bloom", "mpt", "opt", "falcon", "phi", "starcoder2"]
SANDWICHED = ["gemma2", "gemma3_text", "gemma4_text", "olmo2", "glm4", "exaone4"]
PARALLEL = ["cohere2", "falcon_h1"]
EXPERTS = [
    "mixtral",
    "qwen2_moe",
    "qwen3_moe",
    "gpt_oss",
    "llama4_text",
    "dbrx",
    "granitemoe",
    "deepseek_v3",
    "minimax_m2",
    "jetmoe",
]
HYBRIDS = [
    "jamba",
    "bamba",
    "mamba2",
    "nemotron_h",
    "lfm2",
    "qwen3_next",
    "qwen3_5_moe_text",
    "granitemoehybrid",
    "zamba2",
]
LANES = ["deepseek_v4", "qwen4_exp_text", "inkling_text"]
MULTIMODAL = ["gemma3", "gemma4", "llama4", "mllama", "qwen3_5", "mistral3", "qwen2_vl", "qwen2_5_vl"]
REFUSED = ["minimax", "gemma3n_text", "openai-gpt", "rwkv"]
THIRD = [*DENSE, *OLDER, *SANDWICHED, *PARALLEL, *EXPERTS, *HYBRIDS, *LANES, *MULTIMODAL]


@pytest.mark.parametrize("model_type", THIRD)
def test_a_representative_third_is_proved(model_type: str) -> None:
    entry = prove_one(model_type)
    assert (entry.status, entry.reason) == ("proved", "")
    assert entry.leak is not None
    assert entry.leak < 1e-5
    assert entry.writers >= 1


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_cannot_be_exact_is_refused(model_type: str) -> None:
    entry = prove_one(model_type)
    assert entry.status == "refused"
    assert "channel" in entry.reason


@pytest.mark.parametrize("model_type", ["bert", "bart", "trocr", "gemma4_assistant"])
def test_what_is_no_decoder_is_said_to_be_none(model_type: str) -> None:
    assert prove_one(model_type).status == "not a residual decoder"


def test_norms_and_experts_are_listed() -> None:
    assert (prove_one("gemma2").gains, prove_one("llama").gains) == (True, False)
    assert (prove_one("mixtral").experts, prove_one("llama").experts) == ("fused", "")


def test_an_unknown_type_is_an_error() -> None:
    with pytest.raises(InputError, match="no-such-type: the installed transformers has no language model of this type"):
        list(prove_each(["no-such-type"]))


def listed() -> str:
    """The table of the page."""
    return PAGE.read_text(encoding="utf-8").partition("<!-- architectures -->\n")[2].partition("\n<!-- end -->")[0]


def test_the_page_s_table_names_every_type_once() -> None:
    names = [
        name.strip(" `")
        for line in listed().splitlines()
        if line.startswith("| ")
        for name in line.split("|")[2].split(",")
    ]
    shown = [name for name in names if name and name != "model types"]
    assert sorted(shown) == sorted(set(shown))
    if f"transformers {transformers.__version__}" in listed():
        assert set(model_types()) <= set(shown)


@pytest.mark.parametrize("model_type", THIRD)
def test_the_page_lists_the_third_as_proved(model_type: str) -> None:
    proved = [line for line in listed().splitlines() if line.startswith("| proved")]
    assert any(f"`{model_type}`" in line for line in proved)


@pytest.mark.sweep
def test_the_page_s_table_is_what_a_full_sweep_gives() -> None:
    entries: list[Entry] = list(prove_each([*model_types(), *multimodal_types()]))
    assert listed() == architectures_markdown(entries)
    causal = [entry for entry in entries if entry.model_type in model_types()]
    assert sum(entry.status == "proved" for entry in causal) >= 140
