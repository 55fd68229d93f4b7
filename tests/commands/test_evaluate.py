"""The evaluation of a model, and of an edit against its original: no difference where there is none, and the figures
are those of the definitions."""

from __future__ import annotations

import csv
import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from abliterate.cli.compare import compared_csv, compared_json, compared_markdown
from abliterate.commands.evaluate import check_out, check_served, evaluate
from abliterate.commands.export import export
from abliterate.errors import InputError
from abliterate.evaluation.evaluation import Evaluation
from abliterate.pipeline.evaluate_options import HARMFUL, HARMLESS, EvaluateOptions
from abliterate.pipeline.evaluation import evaluate_each
from abliterate.pipeline.export_options import ExportOptions
from abliterate.pipeline.run import Result
from abliterate.prompts.prompt import Prompt
from abliterate.prompts.prompt_set import PromptSet
from abliterate.report.page import write_report
from fixtures.evaluations import SHORT
from fixtures.folders import FIXTURES
from fixtures.tiny_chat import TINY, in_float32
from servers.llama_server import NAME as SERVED
from servers.llama_server import serving, tiny_gguf


def test_a_list_gives_its_categories_and_its_system_messages(tmp_path: Path) -> None:
    rows = [
        {"prompt": text, "category": "even" if place % 2 == 0 else "odd"}
        for place, text in enumerate((TINY / "harmful.txt").read_text().splitlines())
    ]
    (tmp_path / "harmful.json").write_text(json.dumps(rows))
    options = in_float32(Path(), harmful=str(tmp_path / "harmful.json"))
    one = evaluate(options, replace(SHORT, n_prompts=12, text=None, look_alikes=None), None)
    record = one.to_json()["sets"]
    rates = record[HARMFUL]["by_category"]
    assert set(rates) == {"even", "odd"}
    assert sum(rate["model"]["total"] for rate in rates.values()) == 12
    assert sum(rate["model"]["count"] for rate in rates.values()) == record[HARMFUL]["model"]["refused"]["count"]
    assert "by_category" not in record[HARMLESS]


def test_the_day_that_a_template_writes_is_recorded_and_no_other_template_takes_one(tmp_path: Path) -> None:
    dated = tmp_path / "dated.jinja"
    dated.write_text("{# {{ strftime_now('%d %b %Y') }} #}" + (TINY / "chat_template.jinja").read_text())
    few = replace(SHORT, n_prompts=2, reply_tokens=2, text=None, look_alikes=None)
    asked = in_float32(Path(), chat_template=dated)
    before = datetime.now().date().isoformat()
    today = evaluate(asked, few, None).settings["date"]
    assert before <= today <= datetime.now().date().isoformat()
    assert evaluate(replace(asked, date="2024-02-29"), few, None).settings["date"] == "2024-02-29"
    with pytest.raises(InputError, match="--date: the chat template writes no date"):
        evaluate(in_float32(Path(), date="2024-02-29"), few, None)


def test_a_server_is_not_asked_without_a_lists_system_messages() -> None:
    sets = {HARMFUL: PromptSet("mine.json", (Prompt("Why?", system="Be short."),))}
    with pytest.raises(InputError, match=r"harmful prompts, mine\.json, bring system messages"):
        check_served(in_float32(Path()), sets)
    check_served(in_float32(Path(), system="Be long."), sets)


@pytest.mark.slow
def test_a_model_evaluated_against_itself_does_not_differ() -> None:
    one = evaluate(in_float32(Path()), SHORT, str(TINY))
    assert one.against is not None
    assert one.model.sets == one.against.sets
    for name, figure in ((figure.name, figure) for figure in one.figures):
        if name.startswith("KL"):
            assert figure.model is not None
            assert set(figure.model.values) == {0.0}, name
        elif name == "top-1 agreement":
            assert figure.model is not None
            assert set(figure.model.values) == {1.0}
        else:
            assert figure.difference is not None
            assert set(figure.difference.mean.values) == {0.0}, name
            assert figure.difference.p == 1
    for kind in one.to_json()["sets"].values():
        assert (kind["paired"]["gained"], kind["paired"]["lost"], kind["paired"]["p"]) == (0, 0, 1)


def test_the_edited_model_is_evaluated_as_in_its_run(edited: Result) -> None:
    one = evaluate(in_float32(Path(), model=str(edited.out)), replace(SHORT, n_prompts=100, text=None), str(TINY))
    measured = edited.measured
    assert measured.edited is not None
    assert measured.divergence is not None
    assert one.model.sets[HARMFUL].replies == measured.edited.harmful
    assert one.model.refusals(HARMFUL) == measured.edited.harmful_refusals
    for name, own in (
        ("KL, last prompt token", measured.divergence.first_token),
        ("KL, last prompt token, where answered", measured.divergence.first_token_answered),
        ("KL, over the original's replies", measured.divergence.over_replies),
    ):
        figure = one.figure(name)
        assert figure is not None
        assert figure.model is not None
        # The original was measured beside the look-alikes here: other batches round in another way.
        assert figure.model.values == pytest.approx(own.values, abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"judge": "a", "judge_endpoint": "http://localhost:1"}, "one judge decides"),
        ({"judge_model": "a"}, "add --judge-endpoint URL"),
        ({"served_model": "a"}, "add --endpoint URL"),
        ({"endpoint": "http://localhost:1"}, "give one of the two"),
        ({"reply_tokens": 0}, "--reply-tokens 0: give a number from 1 up"),
        ({"n_prompts": 0}, "--n-prompts 0: give a number from 1 up"),
        ({"text": Path("no-such.txt")}, "--text no-such.txt: cannot be read"),
        ({"look_alikes": "no-such.txt"}, "no-such.txt: no such prompt file"),
    ],
)
def test_what_contradicts_itself_is_one_line(changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        evaluate(in_float32(Path()), replace(SHORT, **changes), None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"text": Path("a.txt")}, "gives replies only"), ({"tasks": ("a",)}, "gives replies only")],
)
def test_a_server_gives_replies_only(changes: dict[str, object], message: str) -> None:
    evaluate_options = replace(EvaluateOptions(endpoint="http://localhost:1"), **changes)
    with pytest.raises(InputError, match=message):
        evaluate(in_float32(Path(), model=""), evaluate_options, None)
    with pytest.raises(InputError, match="the server applies the chat template"):
        evaluate(in_float32(Path(), model="", thinking="on"), EvaluateOptions(endpoint="http://localhost:1"), None)


def test_all_prompts_of_a_list_can_be_asked(tmp_path: Path) -> None:
    one = evaluate(in_float32(Path()), replace(SHORT, split="all", n_prompts=30, text=None, look_alikes=None), None)
    assert {kind: len(judged.replies) for kind, judged in one.model.sets.items()} == {HARMFUL: 30, HARMLESS: 30}


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on(edited: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second model's replies are interrupted: those of the first, and its finished batches, are not made again."""
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path))
    how = in_float32(Path(), model=str(edited.out), batch_size=7)
    evaluate_options = replace(SHORT, text=None)
    whole = evaluate(how, evaluate_options, str(TINY))
    assert not list((tmp_path / "evaluations").iterdir())
    made: list[int] = []
    step = AutoModelForCausalLM.from_pretrained(TINY).__class__.generate

    def counted(model: object, tokens: torch.Tensor, **given: object) -> torch.Tensor:
        if len(made) == stop:
            raise KeyboardInterrupt
        made.append(len(tokens))
        reply: torch.Tensor = step(model, tokens, **given)
        return reply

    monkeypatch.setattr("transformers.LlamaForCausalLM.generate", counted)
    stop = 11  # batches of 7 and a rest: 8 for each model
    with pytest.raises(KeyboardInterrupt):
        evaluate(how, evaluate_options, str(TINY))
    assert len(made) == stop
    made.clear()
    stop = -1
    again = evaluate(how, evaluate_options, str(TINY))
    assert len(made) == 16 - 11
    assert again == whole


@pytest.mark.slow
def test_two_processes_find_what_one_does(edited: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`accelerate launch` with two CPU processes: half the replies each, and every figure the same bit for bit."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    words = [str(edited.out), "--against", str(TINY), "--harmful", str(TINY / "harmful.txt"), "--device", "cpu"]
    words += ["--harmless", str(TINY / "harmless.txt"), "--reply-tokens", "24", "--n-prompts", "20", "--json"]
    words += ["--batch-size", "8", "--text", str(SHORT.text)]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2"]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", "0"]
    found = []
    for name, command in (("one", [sys.executable, "-m", "abliterate"]), ("two", [*launch, "-m", "abliterate"])):
        monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / name))
        done = subprocess.run([*command, "evaluate", *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
        (line,) = done.stdout.splitlines()
        found.append(json.loads(line))
    assert found[0] == found[1]


def test_a_served_model_says_what_the_files_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real llama.cpp server with the tiny model; then the server is gone, and the replies are still there."""
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))
    evaluate_options = EvaluateOptions(reply_tokens=24, n_prompts=6)
    local = evaluate(in_float32(Path()), evaluate_options, None)
    with serving(tiny_gguf(tmp_path)) as server:
        how = replace(evaluate_options, endpoint=server.url, served_model=SERVED)
        served = evaluate(in_float32(Path(), model=""), how, None)
        beside = evaluate(in_float32(Path(), model=""), how, SERVED)
    assert served.notes == ()
    for kind, judged in local.model.sets.items():
        assert [one.text for one in judged.replies] == [one.text for one in served.model.sets[kind].replies]
        assert judged.labels == served.model.sets[kind].labels
    assert served.damage == ()
    assert beside.against is not None
    assert beside.to_json()["sets"][HARMFUL]["paired"] == {"gained": 0, "lost": 0, "p": 1.0, "test": "McNemar, exact"}
    again = evaluate(in_float32(Path(), model=""), how, None)
    assert f"{SERVED}: 18 replies were kept from before" in again.notes[0]
    assert again.to_json()["replies"] == served.to_json()["replies"]


def adapter(folder: Path, changing: bool) -> Path:
    """A LoRA adapter of the tiny model with random factors, or with the zeros that training begins with."""
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    config = LoraConfig(r=2, target_modules=["down_proj"], init_lora_weights=not changing)
    get_peft_model(AutoModelForCausalLM.from_pretrained(TINY), config).save_pretrained(folder)
    return folder


# peft asks transformers by a name that is on its way out.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_is_evaluated_on_its_base(tmp_path: Path) -> None:
    evaluate_options = replace(SHORT, text=None, n_prompts=10)
    nothing = evaluate(in_float32(Path(), model=str(adapter(tmp_path / "zero", False))), evaluate_options, str(TINY))
    agreement = nothing.figure("top-1 agreement")
    assert agreement is not None
    assert agreement.model is not None
    assert agreement.model.value == 1
    folder = adapter(tmp_path / "random", True)
    from peft import PeftModel

    merged = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(TINY), folder).merge_and_unload()
    merged.save_pretrained(tmp_path / "merged")
    AutoTokenizer.from_pretrained(TINY).save_pretrained(tmp_path / "merged")
    one, other = (
        evaluate(in_float32(Path(), model=str(path)), evaluate_options, str(TINY))
        for path in (folder, tmp_path / "merged")
    )
    for name in ("KL, last prompt token", "KL, over the original's replies"):
        first, second = one.figure(name), other.figure(name)
        assert first is not None
        assert second is not None
        assert first.model is not None
        assert second.model is not None
        assert first.model.value > 1e-3
        # Merged weights are rounded to bfloat16 once more.
        assert first.model.value == pytest.approx(second.model.value, rel=0.05)
    alone = evaluate(in_float32(Path(), model=str(folder)), evaluate_options, None)
    assert alone.model.sets[HARMFUL] == one.model.sets[HARMFUL]
    assert alone.model.name == "random"


def test_tasks_before_and_after(edited: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES / "lm_eval_task")
    evaluate_options = replace(SHORT, text=None, n_prompts=8, look_alikes=None, tasks=("tiny_words.yaml",))
    one = evaluate(in_float32(Path(), model=str(edited.out)), evaluate_options, str(TINY))
    record = one.to_json()["tasks"]["tiny_words"]["acc"]
    assert 0 <= record["model"]["mean"] <= 1
    assert record["against"]["count"] == record["model"]["count"] > 0


@pytest.mark.slow
def test_several_edits_in_one_table(edited: Result) -> None:
    evaluate_options = replace(SHORT, n_prompts=10)
    found = list(evaluate_each(in_float32(Path()), evaluate_options, [str(edited.out), str(TINY)], str(TINY)))
    rows = list(csv.DictReader(io.StringIO(compared_csv(found))))
    assert [row["model"] for row in rows] == ["tiny-chat", "edited", "tiny-chat"]
    assert rows[0]["KL, last prompt token"] == ""
    assert float(rows[2]["KL, last prompt token"]) == 0
    kl = found[0].figure("KL, last prompt token")
    assert kl is not None
    assert kl.model is not None
    assert float(rows[1]["KL, last prompt token"]) == kl.model.value
    assert float(rows[1]["refused, harmful"]) == found[0].model.refusals(HARMFUL).value
    markdown = compared_markdown(found).splitlines()
    assert len(markdown) == 2 + len(rows)
    assert {line.count("|") for line in markdown} == {markdown[0].count("|")}
    assert compared_json(found)["evaluations"] == [one.to_json() for one in found]


def test_the_page_shows_the_run_and_its_evaluation(edited: Result, evaluation: Evaluation, tmp_path: Path) -> None:
    """Every file that the page reads is written by the real thing here."""
    folder = Path(shutil.copytree(edited.out, tmp_path / "edited"))
    (folder / "evaluation.json").write_text(json.dumps(evaluation.to_json()))
    page = write_report(folder).read_text()
    measured = edited.measured
    assert measured.selection is not None
    data = json.loads(page.split('<script type="application/json" id="data">')[1].split("</script>")[0])
    assert data["chosen"] == {"layer": measured.selection.chosen.layer, "position": measured.selection.chosen.position}
    assert len(data["candidates"]) == len(measured.selection.candidates)
    assert [one["title"] for one in data["explorers"]] == ["In the run", "In the evaluation"]
    assert data["separation"]["layers"] == list(range(9))
    assert max(max(filter(None, row)) for row in data["separation"]["auc"]) > 0.95


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_an_adapter_held_against_another(tmp_path: Path) -> None:
    """Both stand on the same base, which the first one names."""
    folders = [adapter(tmp_path / name, changing) for name, changing in (("one", True), ("other", False))]
    one = evaluate(in_float32(Path(), model=str(folders[1])), replace(SHORT, text=None, n_prompts=8), str(folders[0]))
    assert one.against is not None
    assert (one.against.name, one.model.name) == ("one", "other")


@pytest.mark.slow
def test_an_adapter_of_another_original_is_refused(edited: Result, tmp_path: Path) -> None:
    export(ExportOptions(edited.out, "adapter"), in_float32(tmp_path / "adapter"))
    with pytest.raises(InputError, match="was not made from"):
        evaluate(in_float32(Path(), model=str(tmp_path / "adapter")), SHORT, str(edited.out))


@pytest.mark.parametrize("name", ["abliterate.json", "model.safetensors"])
def test_what_is_no_evaluation_is_not_overwritten(edited: Result, name: str) -> None:
    before = (edited.out / name).read_bytes()
    with pytest.raises(InputError, match="is there, and is no earlier evaluation; choose another name"):
        check_out(edited.out / name)
    assert (edited.out / name).read_bytes() == before


def test_an_earlier_evaluation_gives_way(evaluation: Evaluation, tmp_path: Path) -> None:
    path = tmp_path / "evaluation.json"
    check_out(path)
    path.write_text(json.dumps(evaluation.to_json()))
    check_out(path)
    with pytest.raises(InputError, match="give a file in a folder that is there"):
        check_out(tmp_path / "no" / "evaluation.json")
