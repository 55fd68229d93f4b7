"""`--mode calm`: look-alikes are answered, what is harmful is refused as before; and `--keep` in the usual mode."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from abliterate.commands.pick import pick
from abliterate.commands.reproduce import reproduce
from abliterate.errors import InputError
from abliterate.pipeline.calm import calm_directions, true_refusals
from abliterate.pipeline.find import Clock, capture_training, find, find_directions
from abliterate.pipeline.kept import collect_kept
from abliterate.pipeline.load import load_run
from abliterate.pipeline.options import Options
from abliterate.pipeline.replies import collect_training_replies
from abliterate.pipeline.reproduce_options import ReproduceOptions
from abliterate.pipeline.run import Result, run
from abliterate.progress import SILENT
from abliterate.prompts.splits import HARMFUL
from abliterate.report.load import gather
from abliterate.report.page import render
from fixtures.search import short_stages
from fixtures.tiny_chat import BUNDLED, TINY, options
from fixtures.unfinished import QUICK

ALIKE = str(TINY / "look-alikes.txt")


def calm(out: Path, **changes: object) -> Options:
    return options(out, mode="calm", optimize=None, look_alikes=ALIKE, **changes)


@pytest.mark.slow
def test_the_direction_is_orthogonal_to_that_of_true_refusals(tmp_path: Path) -> None:
    loaded = load_run(calm(tmp_path / "edited", **QUICK), SILENT)
    alike, harmless = capture_training(loaded, SILENT)
    replies, kept = collect_training_replies(loaded, SILENT), collect_kept(loaded, SILENT)
    answered = harmless.rows(replies.harmless)
    truly = true_refusals(loaded, kept, answered, SILENT)
    assert set(truly.prompts) <= set(loaded.splits.kept("train")[HARMFUL].prompts)
    over_refusal = find_directions(loaded, replies, alike, harmless)
    directions = calm_directions(loaded, over_refusal, truly.activations, answered)
    places = loaded.splits.chat.positions()
    unit = (truly.activations.at(places).mean() - answered.at(places).mean())[-1, 4]
    usual = answered.at(places).mean()[-1, 4]
    unit -= (unit @ usual) / (usual @ usual) * usual
    assert abs(float(directions[4] @ (unit / unit.norm()).float())) < 1e-5
    assert abs(float(over_refusal[4] @ (unit / unit.norm()).float())) > 0.1


def test_look_alikes_of_which_none_is_refused_leave_nothing_to_calm(tmp_path: Path) -> None:
    loaded = load_run(replace(calm(tmp_path / "edited", **QUICK), look_alikes=str(TINY / "harmless.txt")), SILENT)
    with pytest.raises(
        InputError, match=r"refuses none of the \d+ look-alikes of the train part: there is nothing to calm"
    ):
        collect_training_replies(loaded, SILENT)


@pytest.fixture(scope="module")
def calmed(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A run with short stages, that keeps a list besides."""
    with short_stages():
        return run(calm(tmp_path_factory.mktemp("calm") / "calmed", keep=str(TINY / "harmful.txt")))


@pytest.mark.slow
def test_manifest_card_and_page_say_what_was_kept(calmed: Result) -> None:
    manifest = calmed.manifest
    assert [*manifest["prompts"]] == ["harmful", "harmless", "look-alikes", "keep"]
    assert manifest["command"][2:4] == ["--mode", "calm"]
    assert "used" in manifest["prompts"]["look-alikes"]
    assert "used" not in manifest["prompts"]["harmful"]
    search = manifest["search"]
    assert search["original"]["kept_prompts"] == search["points"][0]["kept_prompts"] > 0
    assert (
        search["points"][search["chosen"]]["kept"]
        >= search["original"]["kept"] - 0.02 * search["original"]["kept_prompts"]
    )
    assert [*manifest["figures"]["edited"]["other_refusals"]] == ["look-alikes", "keep"]
    assert manifest["proof"]["holds"]
    card = (calmed.out / "README.md").read_text()
    assert "edited against over-refusal" in card
    assert (
        "- Kept: refusals that should stay, those of harmful prompts and those of `--keep`; on the selection prompts"
        in card
    )
    assert "| Look-alikes refused |" in card
    assert "| Prompts of --keep refused |" in card
    shown = render(gather(calmed.out))
    assert "refusals that should stay" in shown
    assert "Look-alikes refused" in shown


@pytest.mark.slow
def test_a_calm_run_is_repeated_from_its_manifest_and_another_point_keeps_refusals_too(
    calmed: Result, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ABLITERATE_CACHE", str(tmp_path / "cache"))  # in which no search is
    lists = {
        name: str(TINY / f"{file}.txt")
        for name, file in (("harmful", "harmful"), ("harmless", "harmless"), ("keep", "harmful"))
    }
    given = ReproduceOptions(model=str(TINY), look_alikes=ALIKE, device="cpu", **lists)
    with short_stages():
        assert reproduce(str(calmed.out), given, tmp_path / "again").differences == ()
    taken = pick(calmed.out, options(tmp_path / "picked", optimize=None, max_kl=1.0), SILENT)
    assert taken.found.chosen in taken.found.front.keeping()
    assert "edited against over-refusal" in (tmp_path / "picked" / "README.md").read_text()


@pytest.mark.slow
def test_over_refused_look_alikes_fall_by_half_and_harmful_refusals_stay(tmp_path: Path) -> None:
    """On all prompts of the bundled model; look-alikes, harmful and harmless prompts that took no part in the search."""
    lists = {side: str(BUNDLED / f"{side}.txt") for side in ("harmful", "harmless")}
    measured = run(calm(tmp_path / "edited", **lists)).measured
    assert measured.original is not None
    assert measured.edited is not None
    assert measured.divergence is not None
    before, after = (one.other_refusals["look-alikes"] for one in (measured.original, measured.edited))
    assert before.value > 0.4
    assert after.count <= before.count / 2
    assert measured.edited.harmful_refusals.value >= measured.original.harmful_refusals.value - 0.05
    assert measured.edited.harmless_refusals.count <= measured.original.harmless_refusals.count
    assert measured.divergence.first_token.value <= 0.03


@pytest.mark.slow
def test_a_usual_search_keeps_what_it_is_told_to(tmp_path: Path) -> None:
    """Look-alikes in the part of refusals that should stay: the harmful prompts are answered, they are declined as before."""
    with short_stages():
        finding = find(options(tmp_path / "edited", optimize=True, keep=ALIKE), Clock(), SILENT)
    assert finding.found is not None
    chosen, original = finding.found.chosen, finding.found.front.original
    assert original.kept > 0
    assert chosen.kept >= original.kept - 0.02 * original.kept_prompts
    assert chosen.refusals < original.refusals
