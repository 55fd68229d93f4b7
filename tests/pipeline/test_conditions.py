"""A later verb asks as the run asked: the conditions come from the record, and whatever is otherwise is said."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from abliterate.cli import main
from abliterate.commands.evaluate import evaluate
from abliterate.commands.export import export
from abliterate.errors import InputError
from abliterate.pipeline.conditions import PUT, carry, look_alikes_note, recorded, settle
from abliterate.pipeline.evaluate_options import HARMFUL, HARMLESS, EvaluateOptions
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.options import Options
from abliterate.pipeline.run import Result, run
from abliterate.report.page import write_report
from abliterate.storage.staging import Staging
from fixtures.tiny_chat import TINY, options

SYSTEM = "Be brief."
OWN = "{# another file of the same words #}" + (TINY / "chat_template.jinja").read_text()
BARE = Options("", Path(), device="cpu")


def copied(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to))


@pytest.fixture(scope="module")
def edited(tmp_path_factory: pytest.TempPathFactory) -> Result:
    folder = tmp_path_factory.mktemp("run")
    (folder / "config.json").write_text(OWN)  # a name that the model's own files have too
    return run(options(folder / "edited", layer=4, system=SYSTEM, chat_template=folder / "config.json"))


def settled(folder: Path, *said: str, **changes: Any) -> Any:
    return settle(replace(BARE, model=str(folder), **changes), said, [str(folder)])


def test_an_evaluation_without_a_flag_gives_the_figures_of_the_run(edited: Result) -> None:
    found = settled(edited.out)
    assert found.options.system == SYSTEM
    assert set(found.origins.values()) == {"abliterate.json of edited"}
    one = evaluate(found.options, EvaluateOptions(reply_tokens=32, look_alikes=None), str(TINY), settled=found)
    assert one.against is not None
    measured = edited.measured
    assert measured.original is not None
    assert measured.edited is not None
    assert measured.divergence is not None
    for seen, examined in ((measured.original, one.against), (measured.edited, one.model)):
        assert examined.sets[HARMFUL].replies == seen.harmful
        assert examined.sets[HARMLESS].replies == seen.harmless
    for name, own in (
        ("KL, last prompt token", measured.divergence.first_token),
        ("KL, over the original's replies", measured.divergence.over_replies),
    ):
        figure = one.figure(name)
        assert figure is not None
        assert figure.model == own
    (edited.out / "evaluation.json").write_text(json.dumps(one.to_json()))
    try:
        assert "Made otherwise than the run" not in write_report(edited.out).read_text()
        other = evaluate(replace(found.options, system=None), EvaluateOptions(n_prompts=5, reply_tokens=8), None)
        (edited.out / "evaluation.json").write_text(json.dumps(other.to_json()))
        page = write_report(edited.out).read_text()
    finally:
        (edited.out / "evaluation.json").unlink()
    assert page.count("system prompt: \u201cBe brief.\u201d in the run, none in the evaluation") == 2
    assert page.count("reply tokens: 32 in the run, 8 in the evaluation") == 2
    assert page.count("number of harmful prompts: 16 in the run, 5 in the evaluation") == 2
    assert "chat template: " not in page


def test_the_chat_template_is_kept_beside_the_record(edited: Result) -> None:
    kept = edited.out / "abliterate_template.jinja"
    assert kept.read_text() == OWN
    assert json.loads((edited.out / "config.json").read_text())["model_type"] == "llama"
    assert settled(edited.out).options.chat_template == kept


def test_flags_come_before_the_record(edited: Result) -> None:
    found = settled(edited.out, "system", "thinking", thinking="on")
    assert found.options.system is None
    assert found.options.thinking == "on"
    assert found.origins["system"] == found.origins["thinking"] == "flag"
    assert found.origins["chat_template"] == "abliterate.json of edited"


def test_what_is_not_beside_the_record_is_asked_for(edited: Result, tmp_path: Path) -> None:
    folder = copied(edited.out, tmp_path / "copy")
    (folder / "harmful.txt").write_text("\n".join(f"Name river {number}." for number in range(20)))
    with pytest.raises(InputError, match=r"holds other harmful prompts than the run had; give them with --harmful"):
        settled(folder)
    (folder / "harmful.txt").unlink()
    with pytest.raises(InputError, match=r"harmful.txt: is not beside the manifest; .* with --harmful"):
        settled(folder)
    settled(folder, "harmful", "harmless")
    settle(replace(BARE, model=str(folder)), [], [str(folder)], names=PUT)  # a conversation needs no list
    (folder / "abliterate_template.jinja").write_text("{{ messages[0].content }}")
    with pytest.raises(InputError, match="is not the chat template that the run had; give it with --chat-template"):
        settled(folder, "harmful", "harmless")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--harmful", "/etc/passwd.txt"], "a file outside its folder"),
        (["--chat-template", "../secret.jinja"], "a file outside its folder"),
        (["--push", "me/mine"], "'--push', which this version does not know"),
        (["--thinking", "maybe"], "--thinking cannot be 'maybe'"),
    ],
)
def test_a_record_decides_little(edited: Result, tmp_path: Path, words: list[str], message: str) -> None:
    folder = copied(edited.out, tmp_path / "copy")
    manifest = json.loads((folder / "abliterate.json").read_text())
    manifest["command"] = ["abliterate", "tiny-chat", "--trust-remote-code", *words, "--out", "edited"]
    (folder / "abliterate.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=message):
        settled(folder)


def test_runs_that_were_not_alike_are_asked_as_usual_and_it_is_said(edited: Result, tmp_path: Path) -> None:
    folder = copied(edited.out, tmp_path / "copy")
    manifest = json.loads((folder / "abliterate.json").read_text())
    words = manifest["command"]
    words[words.index("--system") + 1] = "Be kind."
    (folder / "abliterate.json").write_text(json.dumps(manifest))
    found = settle(replace(BARE, model=str(TINY)), [], [str(edited.out), str(folder)], str(TINY))
    assert found.options.system is None
    assert found.origins["system"] == "default"
    assert found.options.harmful.endswith("harmful.txt")
    (note,) = found.notes
    assert "edited: the system prompt 'Be brief.'" in note
    assert "copy: the system prompt 'Be kind.'); all are asked here with no system prompt; --system chooses" in note


def test_an_adapter_of_the_edit_remembers(edited: Result, tmp_path: Path) -> None:
    export(ExportOptions(edited.out, "adapter"), options(tmp_path / "adapter"))
    found = settled(tmp_path / "adapter").options
    assert found.system == SYSTEM
    assert Path(found.harmful) == tmp_path / "adapter" / "harmful.txt"
    assert found.chat_template == tmp_path / "adapter" / "abliterate_template.jinja"


def test_a_model_without_a_record_has_nothing_to_say() -> None:
    assert recorded(str(TINY)) is None
    assert set(settled(TINY).origins.values()) == {"default"}


def said_by(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main([*words])
    shown = capsys.readouterr()
    return int(stop.value.code or 0), shown.out, shown.err


def test_the_command_says_what_it_took(edited: Result, capsys: pytest.CaptureFixture[str]) -> None:
    few = ["--n-prompts", "3", "--reply-tokens", "4", "--look-alikes", "none", "--device", "cpu"]
    code, out, _ = said_by(capsys, "evaluate", str(edited.out), *few, "--system", "", "--json")
    settings = json.loads(out)["settings"]
    assert code == 0
    assert settings["system"] is None
    assert settings["conditions"]["system"] == "flag"
    assert settings["conditions"]["harmful"] == "abliterate.json of edited"
    code, out, err = said_by(capsys, "compare", str(TINY), str(edited.out), *few, "--csv")
    assert code == 0
    assert "the system prompt 'Be brief.'" in err
    assert "(abliterate.json of edited)" in err


def other_model(folder: Path, kind: str) -> Path:
    tokenizer, config = AutoTokenizer.from_pretrained(TINY), AutoConfig.from_pretrained(TINY)
    if kind == "size":
        config.vocab_size += 8
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    held = json.loads(Tokenizer.from_file(str(folder / "tokenizer.json")).to_str())
    if kind == "ids":
        names = {place: word for word, place in held["model"]["vocab"].items()}
        held["model"]["vocab"] |= {names[1000]: 1001, names[1001]: 1000}
    elif kind == "pieces":
        held["model"]["merges"] = held["model"]["merges"][:20]
    elif kind == "special":
        for token in held["added_tokens"]:
            if token["content"] == "<|user|>":
                token["content"] = "<|human|>"
        vocab = held["model"]["vocab"]
        if "<|user|>" in vocab:
            vocab["<|human|>"] = vocab.pop("<|user|>")
    (folder / "tokenizer.json").write_text(json.dumps(held))
    return folder


@pytest.mark.parametrize("kind", ["size", "ids", "pieces", "special"])
@pytest.mark.parametrize("verb", ["evaluate", "compare", "chat"])
def test_another_model_is_one_line_before_any_weights(
    tmp_path: Path, kind: str, verb: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def loads(*args: object, **given: object) -> None:
        raise AssertionError("weights were loaded")

    monkeypatch.setattr("abliterate.models.loading.load_model", loads)
    monkeypatch.setattr("abliterate.models.loading.load_model", loads)
    other = str(other_model(tmp_path / "other", kind))
    words = [verb, str(TINY), other] if verb == "compare" else [verb, other, "--against", str(TINY)]
    code, out, err = said_by(capsys, *words)
    assert (code, out) == (2, "")
    (line,) = err.strip().splitlines()
    assert "other: cannot be held against tiny-chat, it is no edit of it: " in line


def test_look_alikes_that_made_an_edit_are_said_to_have(edited: Result, tmp_path: Path) -> None:
    folder = copied(edited.out, tmp_path / "calmed")
    manifest = json.loads((folder / "abliterate.json").read_text())
    manifest["prompts"]["look-alikes"] = {"spec": "builtin:look-alikes", "digest": "0"}
    (folder / "abliterate.json").write_text(json.dumps(manifest))
    (note,) = look_alikes_note(BARE, [str(folder), str(edited.out), str(TINY)], "0")
    assert "abliterate.json of calmed: its edit was found on these look-alikes" in note
    assert look_alikes_note(BARE, [str(folder)], "1") == ()


def test_the_behaviour_of_a_run_goes_with_other_forms_of_its_edit(tmp_path: Path) -> None:
    folder = tmp_path / "edited"
    folder.mkdir()
    for words, expected in (([], None), (["--target", "slop", "--harmful", "builtin:slop"], "slop")):
        record = {"command": ["abliterate", "org/model", *words, "--out", "edited"], "prompts": {}}
        (folder / "abliterate.json").write_text(json.dumps(record))
        with Staging.open(tmp_path / "out", "adapter", False) as staging:
            run = carry(folder, staging)
        assert run is not None
        assert run.get("target") == expected
