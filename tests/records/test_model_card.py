from __future__ import annotations

import copy
import math
import re
import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from abliterate.records.model_card import model_card
from fixtures.model_cards import HOSTILE, body, metadata, numbers_in, outline, tokens

MANIFEST: dict[str, Any] = {
    "abliterate": "0.1.0",
    "versions": {"python": "3.12.4", "torch": "2.13.0+cpu", "transformers": "5.23.0"},
    "source": {
        "model": "Qwen/Qwen3-4B-Instruct-2507",
        "revision": "cdbee75f17c01a7cc42f958dc650907174af0554",
        "files": {"model.safetensors": "8e1f77a3"},
    },
    "seed": 0,
    "command": ["abliterate", "Qwen/Qwen3-4B-Instruct-2507", "--strength", "1.0", "--out", "my folder"],
    "prompts": {
        "harmful": {"spec": "builtin:harmful", "digest": "5f1c" * 16, "train": 88, "select": 32, "report": 65},
        "harmless": {"spec": "builtin:harmless", "digest": "a7d2" * 16, "train": 89, "select": 33, "report": 100},
    },
    "direction": {"name": "resid.15", "method": "projected", "layer": 15, "position": -1},
    "selection": {"bypass": -3.123, "induce": 2.234, "kl": 0.0345},
    "recipe": {"direction": "resid.15", "strengths": {"embed": 1.0, "attn": [0.25, 0.5, 0.75], "mlp": 1.0}},
    "tensors": [{"name": f"layers.{n}.weight", "norm_before": 1.0, "norm_after": 1.0} for n in range(57)],
    "proof": {"kind": "silence", "largest": 3.21e-4, "limit": 1e-2, "before": 0.123, "per_layer": [3.21e-4, 1e-4]},
    "figures": {
        "reply_tokens": 48,
        "original": {
            "harmful_refusals": {"count": 62, "total": 65, "rate": 62 / 65, "low": 0.873, "high": 0.984},
            "harmless_refusals": {"count": 2, "total": 100, "rate": 0.02, "low": 0.0055, "high": 0.07},
        },
        "edited": {
            "harmful_refusals": {"count": 3, "total": 65, "rate": 3 / 65, "low": 0.016, "high": 0.127},
            "harmless_refusals": {"count": 0, "total": 100, "rate": 0.0, "low": 0.0, "high": 0.037},
        },
        "kl": {
            "first_token": {"mean": 0.0612, "count": 100, "low": 0.0411, "high": 0.0833},
            "first_token_answered": {"mean": 0.0591, "count": 98, "low": 0.0399, "high": 0.0821},
            "over_replies": {"mean": 0.0213, "count": 100, "low": 0.0155, "high": 0.0288},
        },
    },
}

FIXED = {"2406.11717", "95", "1", "0", "-1", "256"}
"""Numbers of the card that are no measurements: the paper, the level of the intervals, what strengths mean, sha256."""


def changed(path: str, value: Any) -> dict[str, Any]:
    """The manifest with the value at a dotted path replaced."""
    manifest = copy.deepcopy(MANIFEST)
    *parents, last = path.split(".")
    place = manifest
    for name in parents:
        place = place[name]
    place[last] = value
    return manifest


def test_front_matter_is_what_the_hub_reads() -> None:
    found = metadata(
        model_card(MANIFEST, "---\nlicense: apache-2.0\nlanguage:\n- en\n- zh\ntags: [chat]\n---\n# Theirs\n")
    )
    (index,) = found.pop("model-index")
    assert index["name"] == "Qwen3-4B-Instruct-2507, edited"
    assert found == {
        "base_model": "Qwen/Qwen3-4B-Instruct-2507",
        "base_model_relation": "finetune",
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "license": "apache-2.0",
        "language": ["en", "zh"],
        "tags": ["abliterated", "abliterate", "refusal-direction"],
    }


def test_an_adapter_says_that_it_is_one() -> None:
    found = metadata(model_card({**MANIFEST, "form": "adapter"}, None))
    assert found["base_model_relation"] == "adapter"
    assert found["library_name"] == "peft"


@pytest.mark.parametrize(
    "name", ["edited-model", "/home/me/model", "a/b/c", "org/na me", "../up", "org/name\n", "", *HOSTILE]
)
def test_base_model_only_for_a_hub_id(name: str) -> None:
    found = metadata(model_card(changed("source.model", name), None))
    assert "base_model" not in found
    assert "base_model_relation" not in found


def test_licence_is_inherited_whole() -> None:
    card = "---\nlicense: other\nlicense_name: 'tongyi: qianwen'\nlicense_link: https://h.co/x/LICENSE\nlanguage: en\n---\n"
    found = metadata(model_card(MANIFEST, "\ufeff" + card))
    assert [found[name] for name in ("license", "license_name", "license_link", "language")] == [
        "other", "tongyi: qianwen", "https://h.co/x/LICENSE", "en",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "card",
    [
        None,
        "",
        "# No front matter",
        "---\n- a list\n---\n",
        "---\nlicense: [unclosed\n---\n",
        "---\nlicense: 7\nlanguage: {a: b}\n---\n",
        "---\nlicense: |\n  mit\n  # Injected\n---\n",
        "---\nlicense: []\nlanguage: [no, en]\n---\n",
        "---\nlicense: !!python/object/apply:os.system [ls]\n---\n",
        "---\n1: 2\nignore_metadata_errors: true\ncontent: x\n---\n",
        "---\nwhen: 2024-99-99\nlicense: mit\n---\n",
        "---\nlicense: &a [*a]\n---\n",
        "---\n" + "[" * 5000 + "\n---\n",
        "---\nlicense_link: javascript:alert(1)\n---\n",
    ],
)
def test_of_other_source_cards_nothing_is_inherited(card: str | None) -> None:
    assert model_card(MANIFEST, card) == model_card(MANIFEST, None)


def test_every_number_shown_is_in_the_manifest() -> None:
    text = re.sub(r"```.*?```", "", body(model_card(MANIFEST, None)), flags=re.DOTALL)
    for known in (*MANIFEST["versions"].values(), MANIFEST["abliterate"], MANIFEST["source"]["revision"], "resid.15",
                  MANIFEST["source"]["model"], "5f1c" * 16, "a7d2" * 16):  # fmt: skip
        assert known in text
        text = text.replace(known, "")
    held = [*numbers_in(MANIFEST), float(len(MANIFEST["tensors"]))]
    shown = re.findall(r"-?\d+(?:\.\d+)?(?:e-?\d+)?%?", text)
    assert len(shown) > 50
    for one in shown:
        value = float(one.rstrip("%")) / (100 if one.endswith("%") else 1)
        near = any(math.isclose(value, held_one, rel_tol=5e-3, abs_tol=5e-4 if "%" in one else 0) for held_one in held)
        assert one in FIXED or near, one


def test_every_figure_is_shown() -> None:
    card = model_card(MANIFEST, None)
    for text in (
        "| Harmful prompts refused | 95.4% (87.3% to 98.4%), 62 of 65 | 4.6% (1.6% to 12.7%), 3 of 65 |",
        "| Harmless prompts refused | 2.0% (0.5% to 7.0%), 2 of 100 | 0.0% (0.0% to 3.7%), 0 of 100 |",
        "| KL, last prompt token | 0.0612 (0.0411 to 0.0833), 100 prompts |",
        "| KL, last prompt token, where answered | 0.0591 (0.0399 to 0.0821), 98 prompts |",
        "| KL, over the original's replies | 0.0213 (0.0155 to 0.0288), 100 prompts |",
        "is at most 0.000321 of the stream (rounding allows 0.01); before the edit it was up to 0.123.",
        "- Strength at `attn`: 0.25 to 0.75 over the layers",
        "abliterate Qwen/Qwen3-4B-Instruct-2507 --strength 1.0 --out 'my folder'",
    ):
        assert text in card


def test_what_was_not_measured_is_not_claimed() -> None:
    manifest = MANIFEST | {"figures": None, "selection": None, "prompts": None, "proof": None}
    card = model_card(manifest, None)
    assert "Refusals and divergence of this checkpoint were not measured." in card
    assert "This checkpoint was not proved." in card
    for word in ("%", "| ", "KL", "nats", "scores", "Prompts,", "residual stream along the direction is", "judge"):
        assert word not in body(card)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("figures.edited.harmful_refusals", None),
        ("figures.edited.harmful_refusals", {"count": 0, "total": 0, "rate": math.nan, "low": 0.0, "high": 1.0}),
        ("figures.edited.harmful_refusals", {"count": 0, "total": 0, "rate": None, "low": 0.0, "high": 1.0}),
        ("figures.kl.first_token_answered", None),
        ("figures.kl.first_token_answered", {"mean": math.nan, "count": 0, "low": math.nan, "high": math.nan}),
        ("figures.kl.first_token_answered", {"mean": None, "count": 0, "low": None, "high": None}),
    ],
)
def test_an_empty_figure_is_not_measured(path: str, value: Any) -> None:
    card = model_card(changed(path, value), None)
    assert card.count("not measured |") == 1
    assert "nan" not in body(card)


def test_given_directions_claim_no_method() -> None:
    card = model_card(changed("direction", {"name": "mine", "method": None, "layer": None, "position": None}), None)
    assert "- Direction: `mine`\n" in card


def test_unknown_kind_of_proof_claims_nothing() -> None:
    assert "was not proved" in model_card(changed("proof.kind", "hope"), None)


def test_agreement_says_what_was_compared() -> None:
    card = model_card(
        changed("proof", {"kind": "agreement", "largest": 2e-5, "limit": 1e-4, "before": None, "per_layer": []}), None
    )
    assert "with the same edit as hooks by at most 2e-05 of the stream (rounding allows 0.0001)." in card


FOREIGN = [
    "source.model", "source.revision", "direction.name", "direction.method", "prompts.harmful.spec",
    "prompts.harmless.digest", "versions.torch", "abliterate",
]  # fmt: skip
"""Where a manifest holds text that someone else chose."""


@pytest.mark.parametrize("text", HOSTILE)
def test_foreign_text_adds_no_structure(text: str) -> None:
    for path in FOREIGN:
        plain, card = (model_card(changed(path, one), None) for one in ("plain", text))
        assert outline(card) == outline(plain), path
        assert metadata(card) == metadata(plain), path
        for token in tokens(card):
            assert "evil" not in str(token.attrs), path


@given(st.text(max_size=40))
def test_any_text_is_shown_as_it_is(text: str) -> None:
    card = model_card(changed("prompts.harmful.spec", text), None)
    assert outline(card) == outline(model_card(changed("prompts.harmful.spec", "plain"), None))
    item = next(
        token for token in tokens(card) if token.type == "inline" and token.content.startswith("Prompts, `harmful`")
    )
    seen = "".join(
        child.content for child in item.children or () if child.type in ("text", "code_inline", "text_special")
    )
    expected = "".join(one if one.isprintable() else "\ufffd" for one in text)
    assert seen.startswith(f"Prompts, harmful: {expected}, sha256")


@pytest.mark.parametrize("text", HOSTILE)
def test_command_stays_inside_its_fence(text: str) -> None:
    card = model_card(changed("command", ["abliterate", text, "--out", "x"]), None)
    fences = [token for token in tokens(card) if token.type == "fence" and token.content.startswith("abliterate ")]
    fences = [token for token in fences if not token.content.startswith("abliterate export")]
    assert len(fences) == 1
    assert outline(card) == outline(model_card(MANIFEST, None))
    if text.isprintable():
        assert shlex.split(fences[0].content) == ["abliterate", text, "--out", "x"]


def test_strengths_are_not_rounded_to_one() -> None:
    assert "0.9996" in model_card(changed("recipe.strengths", {"embed": 0.9996, "attn": []}), None)


def test_sections_come_in_order() -> None:
    assert re.findall(r"^## (.*)$", model_card(MANIFEST, None), re.MULTILINE) == [
        "Figures", "How to use it", "What was done", "Proof", "How to repeat it", "Licence", "Limits and responsible use",
    ]  # fmt: skip


def test_an_edit_of_over_refusal_says_what_goes_and_what_was_kept() -> None:
    manifest = copy.deepcopy(MANIFEST)
    manifest["prompts"]["look-alikes"] = {**manifest["prompts"]["harmful"], "spec": "builtin:look-alikes"}
    point = {"refusals": 4, "prompts": 54, "kl": 0.01, "kept": 31, "kept_prompts": 32}
    manifest["search"] = {"original": {**point, "refusals": 29, "kept": 32}, "chosen": 0, "points": [point]}
    for model, count in (("original", 55), ("edited", 12)):
        rate = {"count": count, "total": 120, "rate": count / 120, "low": 0.1, "high": 0.5}
        manifest["figures"][model]["other_refusals"] = {"look-alikes": rate}
    card = model_card(manifest, None)
    for text in (
        "edited against over-refusal",
        "- over-refusal",
        "on the look-alikes of the selection 4 of 54 replies refuse (29 before)",
        "- Kept: refusals that should stay, those of harmful prompts; on the selection prompts 31 of 32 (32 before)",
        "| Look-alikes refused | 45.8% (10.0% to 50.0%), 55 of 120 | 10.0% (10.0% to 50.0%), 12 of 120 |",
    ):
        assert text in card
    assert "Kept: " not in model_card(MANIFEST, None)


@pytest.mark.parametrize("path", ["target", "run"])
def test_an_edit_of_another_behaviour_is_not_called_one_of_refusal(path: str) -> None:
    """Neither the run's own card nor that of another form of its edit."""
    card = model_card(changed(path, "slop" if path == "target" else {"target": "slop"}), None)
    assert "edited along its direction of `slop`" in card
    assert "replies that show `slop`" in card
    assert "refusal-direction" not in card
    assert "Refusing is a part of how a model is kept from harm" not in card


def test_who_counted_in_a_search_is_named_where_it_was_not_the_rules() -> None:
    point = {"refusals": 4, "prompts": 54, "kl": 0.01}
    search = {"original": {"refusals": 40, "prompts": 54}, "chosen": 0, "points": [point]}
    assert "(40 before), KL" in model_card(changed("search", search), None)
    assert "(40 before; counted by `org/judge`), KL" in model_card(
        changed("search", {**search, "judge": "org/judge"}), None
    )
