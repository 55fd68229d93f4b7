"""The report page in a browser that is told to complain about everything: what it says is what the files say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from abliterate.report.page import write_report
from abliterate.studies.record import write_study
from fixtures import clusters_record, phases_record, positions_record
from fixtures.browser import chromium, lacking, watched_page
from fixtures.report_records import (
    HOSTILE,
    LAYERS,
    PROMPTS,
    changed,
    evaluation,
    folder_of,
    manifest,
    observations,
    rate,
)

SECTIONS = (
    "figures",
    "evaluation",
    "separation",
    "activations",
    "thoughts",
    "selection",
    "strengths",
    "search",
    "replies",
    "proof",
    "repeat",
)


def test_only_a_person_may_go_without_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no Chromium"):
        lacking("no Chromium")
    monkeypatch.delenv("CI")
    with pytest.raises(pytest.skip.Exception, match="no Chromium"):
        lacking("no Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with chromium() as held:
        yield held


@dataclass
class Watched:
    """Opens pages, and keeps what they asked the network for and what they complained about."""

    browser: Any
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    contexts: list[Any] = field(default_factory=list)

    def __call__(self, path: Path, width: int = 1100, **how: Any) -> Any:
        context = self.browser.new_context(viewport={"width": width, "height": 900}, **how)
        self.contexts.append(context)
        context.on("request", lambda request: self.asked.append(request.url))
        context.on("requestfailed", lambda request: self.refused.append(f"{request.url} {request.failure}"))
        page = watched_page(context, self.complaints)
        page.goto(path.as_uri())
        assert page.locator(".plot").count() == page.locator(".js-plotly-plot").count()
        return page


@pytest.fixture
def watched(browser: Any) -> Iterator[Watched]:
    """Opens pages; afterwards no page may have asked for anything but itself, nor complained."""
    watched = Watched(browser)
    yield watched
    for context in watched.contexts:
        context.close()
    assert not [url for url in watched.asked if not url.startswith(("file://", "data:", "blob:"))]
    assert not watched.complaints


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page with every section."""
    return write_report(folder_of(tmp_path_factory.mktemp("full"), manifest(), observations(), evaluation()))


def comes(place: Any, wanted: str) -> None:
    """Wait until an element says what it should."""
    from playwright.sync_api import expect

    expect(place).to_have_text(wanted)


def drawn(page: Any, plot: str) -> list[dict[str, Any]]:
    """What a plot was given: plain numbers and texts of each trace."""
    found: list[dict[str, Any]] = page.evaluate(
        "(id) => document.getElementById(id).data.map(({name, x, y, z, text, error_x, error_y}) => ({name, x, y, z, text, error_x, error_y}))",
        plot,
    )
    return found


def cells(page: Any, caption: str) -> list[list[str]]:
    """The rows of the table with the caption."""
    rows = page.locator("table", has=page.locator("caption", has_text=caption)).locator("tbody tr")
    return [[one.replace("\u00a0", " ") for one in row.locator("th, td").all_text_contents()] for row in rows.all()]


def test_the_figures_on_the_page_are_those_of_the_files(watched: Watched, full: Path) -> None:
    page = watched(full)
    values = [" ".join(one.split()) for one in page.locator(".card .value").all_text_contents()]
    assert values == ["96.0%→ before, now 8.0%", "4.0%→ before, now 0%", "0.291", "Holds"]
    table = cells(page, "Refusals and divergence.")
    assert table[0][1].startswith("24/25 = 96.0% [80.5%, 99.3%]")
    assert table[1][2] == "0/25 = 0% [0%, 13.3%]"
    assert [row[2] for row in table[2:]] == [
        "0.291 [0.145, 0.582] nats", "0.0138 [0.0069, 0.0276] nats", "7.5 × 10⁻⁵ [3.75 × 10⁻⁵, 0.00015] nats",
    ]  # fmt: skip
    original, edited = drawn(page, "plot-refusals")
    held = manifest()["figures"]
    for trace, model in ((original, "original"), (edited, "edited")):
        rates = [held[model][f"{side}_refusals"] for side in ("harmful", "harmless")]
        assert trace["x"] == [one["rate"] for one in rates]
        assert trace["error_x"]["array"] == pytest.approx([one["high"] - one["rate"] for one in rates])
        assert trace["error_x"]["arrayminus"] == pytest.approx([one["rate"] - one["low"] for one in rates])
    assert drawn(page, "plot-damage")[0]["x"] == [0.291, 0.0138, 7.5e-5]
    attn = next(trace for trace in drawn(page, "plot-strengths") if trace["name"] == "attn")
    assert attn["y"] == manifest()["recipe"]["strengths"]["attn"]
    assert drawn(page, "plot-separation")[0]["y"] == observations()["separation"]["auc"][0]
    named = [trace["name"] for trace in drawn(page, "plot-separation")[:2]]
    assert named == ["position \u22122, end of the instruction", "position \u22121"]
    grid = drawn(page, "plot-selection")[0]
    assert grid["z"] == [[layer - 3.5 + position for layer in range(1, 5)] for position in (-2, -1)]
    assert cells(page, "Edits that the search found.")[1] == ["0.01", "1/30 = 3.3% [0.6%, 16.7%]", "0", "0.5", "chosen"]
    front = {trace["name"]: trace["x"] for trace in drawn(page, "plot-front") if trace["name"]}
    assert front == {"on the front": [0.002, 0.01], "beaten": [0.05], "chosen": [0.01]}
    assert (
        page.locator("#command").text_content()
        == "abliterate house/chat --system 'Be brief; it'\"'\"'s late' --out edited"
    )
    assert "7b28" * 16 in page.locator("#repeat").text_content()


def test_the_evaluation_is_shown_beside_the_run(watched: Watched, full: Path) -> None:
    page = watched(full)
    shown = page.locator("#evaluation dl > div").all()
    assert [[part.text_content() for part in one.locator("dt, dd").all()] for one in shown] == [
        ["against", "house/chat"], ["model", "edited"], ["reply tokens", "128"], ["judge", "rules"], ["tasks", "arc_easy"],
        ["quick", "yes"], ["harmful prompts", "harmful.txt, 25"],
    ]  # fmt: skip
    assert "Look-alikes were not asked" in page.locator("#evaluation").text_content()
    labels = cells(page, "Replies by label.")
    assert labels[0] == ["harmful", "refused", "23/25 = 92.0% [75.0%, 97.8%]", "2/25 = 8.0% [2.2%, 25.0%]"]
    assert labels[4][:3] == ["look-alikes", "refused", "–"]
    assert cells(page, "prompt by prompt") == [
        ["harmful", "refusals: 0 gained, 21 lost; p = 9.5 × 10⁻⁷ (McNemar, exact)"]
    ]
    figures = {row[0]: row[1:] for row in cells(page, "Divergence and quality.")}
    assert figures["top-1 agreement"] == ["–", "45.0% [22.5%, 90.0%]", "–"]
    assert figures["cross-entropy (nats)"][2] == "0.011 [−0.002, 0.03]; p = 0.12 (paired bootstrap)"
    assert cells(page, "Tasks.") == [
        ["arc_easy", "acc", "63/200 = 31.5% [25.5%, 38.2%]", "61/200 = 30.5% [24.5%, 37.2%]"]
    ]
    assert [trace["y"] for trace in drawn(page, "plot-length")] == [[0.92, 0.92], [0.08, 0.08]]
    assert {trace["name"]: len(trace["x"]) for trace in drawn(page, "plot-evaluation")} == {"against": 4, "model": 8}


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (lambda m, o, e: (m, o, None), {"evaluation"}),
        pytest.param(
            lambda m, o, e: (m, None, e), {"separation", "activations", "thoughts", "selection"}, marks=pytest.mark.slow
        ),
        (
            lambda m, o, e: (m, None, None),
            {"separation", "activations", "thoughts", "selection", "replies", "evaluation"},
        ),
        pytest.param(lambda m, o, e: (changed(m, ["search"], None), o, e), {"search"}, marks=pytest.mark.slow),
        pytest.param(lambda m, o, e: (m, changed(o, ["candidates"], []), e), {"selection"}, marks=pytest.mark.slow),
        (
            lambda m, o, e: ({**m, "search": None, "figures": None, "selection": None, "prompts": None}, None, None),
            {"figures", "search", "separation", "activations", "thoughts", "selection", "replies", "evaluation"},
        ),
    ],
)
def test_a_section_without_data_is_left_out(
    watched: Watched, tmp_path: Path, change: Callable[..., Any], gone: set[str]
) -> None:
    page = watched(write_report(folder_of(tmp_path, *change(manifest(), observations(), evaluation()))))
    wanted = [one for one in SECTIONS if one not in gone]
    assert page.eval_on_selector_all("main > section[id]", "(all) => all.map((one) => one.id)") == wanted
    assert page.eval_on_selector_all("nav a", "(all) => all.map((one) => one.hash.slice(1))") == wanted


@pytest.mark.slow
def test_a_model_that_refuses_more_has_trials_and_no_strengths(watched: Watched, tmp_path: Path) -> None:
    trials = [{"layer": 3, "position": -1, "strength": 0.7, "refused": 34, "prompts": 48}]
    recipe = {"direction": "resid.3", "strengths": {}, "added": 42.5}
    main = {**manifest(), "form": "adapter", "recipe": recipe, "trials": trials, "search": None, "tensors": []}
    observed = observations()
    scores = [{**one, "bypass": None, "induce": one["layer"] / 2, "kl": None} for one in observed["candidates"]]
    page = watched(write_report(folder_of(tmp_path, main, {**observed, "candidates": scores}, evaluation())))
    sections = page.eval_on_selector_all("main > section[id]", "(all) => all.map((one) => one.id)")
    assert sections == [one for one in SECTIONS if one not in ("strengths", "search")]
    assert cells(page, "Trials") == [["3", "−1", "0.7", "34/48 = 70.8% [56.8%, 81.8%]"]]
    assert "a vector of length 42.5 added to resid.3" in page.locator("header").inner_text()
    assert page.locator("#selection .choices label, #selection button").first.inner_text() == "Induce"
    assert page.locator("#tensors").count() == 0
    assert drawn(page, "plot-selection")[0]["z"]


def test_hostile_texts_are_shown_and_run_nothing(watched: Watched, tmp_path: Path) -> None:
    main, observed, evaluated = manifest(), observations(), evaluation()
    main["source"] = {"model": HOSTILE, "revision": HOSTILE, "files": {HOSTILE: HOSTILE}}
    main["command"], main["left_alone"], main["tensors"][0]["name"] = [HOSTILE], [HOSTILE], HOSTILE
    for record in (observed["replies"]["original"], observed["replies"]["edited"], *evaluated["replies"].values()):
        record["harmful"][0].update(prompt=HOSTILE, reply=HOSTILE, label=HOSTILE)
    observed["pca"]["prompts"]["harmful"][0] = HOSTILE
    evaluated.update(model=HOSTILE, settings={HOSTILE: HOSTILE})
    evaluated["sets"] = {HOSTILE: evaluated["sets"]["harmful"]}
    evaluated["figures"] = {HOSTILE: evaluated["figures"]["cross-entropy"]}
    evaluated["by_length"] = [{"tokens": 16, HOSTILE: {"model": rate(1, 9), "against": None}}]
    page = watched(write_report(folder_of(tmp_path, main, observed, evaluated)))
    assert page.locator("h1").text_content() == HOSTILE
    first = page.locator("#explorer-run .pairs > li").first
    assert first.locator(".prompt bdi").text_content() == HOSTILE
    assert first.locator(".reply").all_text_contents() == [HOSTILE] * 2
    page.locator("#explorer-run input[name=find]").fill("onerror='window")
    assert page.locator("#explorer-run .count").text_content() == f"1 of {2 * PROMPTS} prompts"
    assert page.locator("#explorer-run mark").count() == 3
    page.locator("#plot-pca").evaluate("(one) => one.scrollIntoView({ block: 'center', behavior: 'instant' })")
    box = page.locator("#plot-pca .scatterlayer .trace").first.locator(".point").first.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2, steps=3)
    hover = page.locator("#plot-pca .hoverlayer .hovertext").first
    hover.wait_for()
    shown = hover.text_content().replace(" ", "")
    for part in (
        "</script></script>",
        "<imgsrc=xonerror='window.hacked=2'>",
        "&lt;b&gt;",
        "%{x}",
        "⟨U+202E⟩",
        '<ahref="https://example.org">',
    ):
        assert part in shown
    assert page.locator("script").count() == 3
    assert page.locator("img, .plot a, .pairs a").count() == 0
    assert page.evaluate("window.hacked") is None


def test_even_a_script_in_the_page_would_not_run_nor_send(browser: Any, full: Path) -> None:
    watched = Watched(browser)
    page = watched(full)
    page.evaluate(
        "document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.hacked = 1'}))"
    )
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'http://127.0.0.1:9/x.png'}))")
    assert page.evaluate("fetch('http://127.0.0.1:9/').then(() => 'sent', () => 'refused')") == "refused"
    assert page.evaluate("window.hacked") is None
    page.context.close()
    assert {one.removeprefix("policy ") for one in watched.complaints if one.startswith("policy")} == {
        "script-src-elem",
        "img-src",
        "connect-src",
    }
    assert watched.asked == [full.as_uri(), "http://127.0.0.1:9/x.png"]
    assert watched.refused == ["http://127.0.0.1:9/x.png csp"]


def test_search_and_filters_say_how_many_match(watched: Watched, full: Path) -> None:
    page = watched(full)
    place = page.locator("#explorer-run")
    count, find = place.locator(".count"), place.get_by_label("Search prompts and replies")

    def shows(number: int) -> bool:
        return bool(
            count.text_content() == f"{number} of {2 * PROMPTS} prompts"
            and place.locator(".pairs > li").count() == min(10, number)
        )

    assert shows(2 * PROMPTS)
    find.fill("PROMPT 7")
    assert shows(2)
    assert place.locator("mark").all_text_contents() == ["prompt 7"] * 2
    find.fill("reply 2")  # 2 and 20 to 24 of each side
    assert shows(12)
    find.fill(".*")
    assert shows(0)
    place.get_by_role("button", name="Clear").click()
    comes(count, f"{2 * PROMPTS} of {2 * PROMPTS} prompts")
    place.get_by_role("combobox", name="Prompts").select_option("harmless")
    assert shows(PROMPTS)
    place.get_by_role("combobox", name="Prompts").select_option("")
    place.get_by_role("combobox", name="original").select_option("refused")
    assert shows(PROMPTS)
    place.get_by_role("combobox", name="edited").select_option("refused")
    assert shows(1)
    place.get_by_role("combobox", name="edited").select_option("")
    place.get_by_role("combobox", name="Change").select_option("verdict")
    assert shows(PROMPTS - 1)
    place.get_by_role("combobox", name="original").select_option("")
    place.get_by_role("combobox", name="Change").select_option("none")
    assert shows(1)
    judged = page.locator("#explorer-evaluation")
    judged.get_by_role("combobox", name="edited").select_option("label:hedged")
    assert judged.locator(".count").text_content() == f"2 of {2 * PROMPTS} prompts"
    assert judged.locator(".tag").all_text_contents() == [
        "harmful",
        "refused",
        "hedged",
        "harmless",
        "hedged",
        "hedged",
    ]


@pytest.mark.slow
def test_long_lists_come_a_batch_at_a_time_and_whole_in_print(watched: Watched, full: Path) -> None:
    page = watched(full)
    place = page.locator("#explorer-run")
    more, items = place.locator(".more"), place.locator(".pairs > li")
    assert (items.count(), more.text_content()) == (10, "Show 10 more of 40")
    for shown in (20, 30, 40, 50):
        more.press("Enter")
        assert items.count() == shown
    assert not more.is_visible()
    assert page.evaluate("document.activeElement === document.querySelectorAll('#explorer-run .pairs > li')[40]")
    place.locator("input[name=find]").fill("harm")
    assert items.count() == 10
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert items.count() == 50


@pytest.mark.slow
def test_on_paper_the_page_is_light_and_fits(watched: Watched, full: Path) -> None:
    page = watched(full, color_scheme="dark")
    on_screen = page.evaluate(COLOURS)
    page.emulate_media(media="print", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(COLOURS) == ["rgb(255, 255, 255)", "#16191d"]
    widths = page.eval_on_selector_all(
        ".plot .main-svg", "(all) => all.map((one) => one.getBoundingClientRect().width)"
    )
    assert max(widths) <= 640
    page.emulate_media(media="screen", color_scheme="dark")
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(COLOURS) == on_screen
    page.locator("#plot-pca .main-svg[width='1016']").first.wait_for(state="attached")


def test_every_edited_tensor_can_be_found(watched: Watched, full: Path) -> None:
    page = watched(full)
    place = page.locator("#tensors")
    assert not place.locator("table").is_visible()
    place.locator("summary").press("Enter")
    assert place.locator("tbody tr").count() == 2 * LAYERS
    place.get_by_label("Search names").fill("5.MLP")
    assert place.locator(".count").text_content() == "1 of 12 tensors"
    assert place.locator("tbody th, tbody td").all_text_contents() == [
        "model.layers.5.mlp.down_proj.weight", "18.5", "18.3", "1.5", "2 × 10⁻⁶",
    ]  # fmt: skip


def test_the_keyboard_moves_layer_and_score(watched: Watched, full: Path) -> None:
    page = watched(full)
    slider, value = page.get_by_label("Layer", exact=True), page.locator("#layer-value")
    planes = observations()["pca"]["layers"]
    assert value.text_content() == "3, chosen"
    for key, layer in (("ArrowRight", 4), ("ArrowRight", 5), ("ArrowLeft", 4), ("Home", 0), ("End", 6)):
        slider.press(key)
        assert value.text_content() == str(layer)
        assert slider.get_attribute("aria-valuetext") == f"layer {layer}"
        harmful, harmless = drawn(page, "plot-pca")
        assert [*map(list, zip(harmful["x"], harmful["y"], strict=True))] == planes[layer]["harmful"]
        assert [*map(list, zip(harmless["x"], harmless["y"], strict=True))] == planes[layer]["harmless"]
    page.get_by_role("button", name="Chosen layer").press("Enter")
    assert value.text_content() == "3, chosen"
    page.get_by_label("Bypass").press("ArrowRight")
    assert drawn(page, "plot-selection")[0]["z"] == [[None, None, 1.5, None]] * 2
    page.get_by_label("AUC").press("ArrowRight")
    assert drawn(page, "plot-separation")[1]["y"] == observations()["separation"]["d"][1]
    assert "Cohen" in page.locator("#separation-caption").text_content()


CONTROLS = "a[href], button, input, select, summary, [tabindex='0']"


@pytest.mark.slow
def test_tab_reaches_every_control_in_order_and_shows_where_it_is(watched: Watched, full: Path) -> None:
    page = watched(full)
    page.locator("#tensors").evaluate("(one) => { one.open = true; }")
    wanted = page.evaluate(
        """(controls) => [...document.querySelectorAll(controls)]
          .filter((one) => one.checkVisibility() && !(one.type === 'radio' && !one.checked))
          .map((one, place) => (one.dataset.place = place))""",
        CONTROLS,
    )
    assert len(wanted) > 40
    for place in wanted:
        page.keyboard.press("Tab")
        at, outline = page.evaluate(
            """() => { const at = document.activeElement;
              const shown = at.type === 'radio' ? at.nextElementSibling : at;
              return [at.dataset.place, getComputedStyle(shown).outlineStyle]; }"""
        )
        assert (at, outline) == (str(place), "solid")
    page.goto(full.as_uri())
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the figures"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "content"


def test_every_control_and_plot_has_a_name(watched: Watched, full: Path) -> None:
    page = watched(full)
    nameless = page.evaluate(
        """() => [...document.querySelectorAll('button, input, select')].filter(
          (one) => !(one.textContent.trim() && one.tagName === 'BUTTON') && !one.ariaLabel && !one.labels?.[0]?.textContent.trim())
          .map((one) => one.outerHTML)"""
    )
    assert nameless == []
    assert page.locator(".plot:not([aria-label])").count() == 0
    ids = page.eval_on_selector_all(
        "[id]", "(all) => all.map((one) => one.id).filter((id) => !/^(clip|g|topdefs|legend)/.test(id))"
    )
    assert len(ids) == len(set(ids))


COLOURS = "[getComputedStyle(document.body).backgroundColor, document.getElementById('plot-pca').layout.font.color]"


@pytest.mark.slow
def test_dark_and_light_follow_the_system_and_the_button(watched: Watched, full: Path) -> None:
    light, dark = (watched(full, color_scheme=scheme) for scheme in ("light", "dark"))
    by_day, by_night = light.evaluate(COLOURS), dark.evaluate(COLOURS)
    assert by_day[0] == "rgb(255, 255, 255)"
    assert by_day[0] != by_night[0]
    assert by_day[1] != by_night[1]
    light.get_by_role("button", name="Switch to dark colours").press("Enter")
    assert light.evaluate(COLOURS) == by_night
    light.get_by_role("button", name="Switch to light colours").press("Enter")
    assert light.evaluate(COLOURS) == by_day
    dark.emulate_media(color_scheme="light")
    comes(dark.locator("#theme"), "Dark")
    assert dark.evaluate(COLOURS) == by_day


@pytest.mark.slow
def test_nothing_moves_for_who_asks_for_it(watched: Watched, full: Path) -> None:
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert watched(full).evaluate(behaviour) == "smooth"
    assert watched(full, reduced_motion="reduce").evaluate(behaviour) == "auto"


@pytest.mark.parametrize("width", [320, *(pytest.param(width, marks=pytest.mark.slow) for width in (360, 768))])
def test_a_narrow_page_does_not_scroll_sideways(watched: Watched, tmp_path: Path, width: int) -> None:
    long = "unbroken" * 60
    main, observed = manifest(), observations()
    main["source"]["model"] = main["command"][1] = main["tensors"][0]["name"] = long
    for model in ("original", "edited"):
        observed["replies"][model]["harmful"][0].update(prompt=long, reply=long)
    page = watched(write_report(folder_of(tmp_path, main, observed, evaluation())), width=width)
    page.locator("#tensors").evaluate("(one) => { one.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert (
        page.evaluate(
            "Math.max(...[...document.querySelectorAll('.plot')].map((one) => one.getBoundingClientRect().right))"
        )
        <= width
    )


def test_a_phone_has_rows_as_blocks_large_targets_and_the_sections_in_sight(watched: Watched, full: Path) -> None:
    page = watched(full, 390)
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, summary, nav a, .choices label, input:not([type=radio])')]"
        ".filter((one) => one.offsetParent && one.getBoundingClientRect().height < 43.5).map((one) => one.outerHTML)"
    )
    assert not small
    cell = page.locator("td[data-head]:visible").first
    assert cell.evaluate("(one) => getComputedStyle(one, '::before').content") == f'"{cell.get_attribute("data-head")}"'
    assert cell.evaluate("(one) => getComputedStyle(one.parentElement).display") == "block"
    page.evaluate("scrollTo({ top: 2000, behavior: 'instant' })")
    assert abs(page.locator("nav").bounding_box()["y"]) < 1
    assert full.stat().st_size < 2_500_000


@pytest.mark.slow
def test_figures_are_saved_for_paper_whatever_the_screen_shows(watched: Watched, full: Path) -> None:
    page = watched(full, color_scheme="dark", accept_downloads=True)
    with page.expect_download() as download:
        page.locator("#figures .save").first.click()
    assert download.value.suggested_filename == "refusals.svg"
    picture = Path(download.value.path()).read_text(encoding="utf-8")
    assert picture.startswith("<svg")
    assert "rgb(255, 255, 255)" in picture
    assert page.evaluate(COLOURS)[0] != "rgb(255, 255, 255)"


def test_the_command_can_be_copied(watched: Watched, full: Path) -> None:
    page = watched(full, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy").press("Enter")
    comes(page.locator("#copied"), "Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#command").text_content()


def test_positions_are_drawn_and_chosen_by_layer_and_vector(tmp_path: Path, watched: Callable[..., Any]) -> None:
    write_study(tmp_path, positions_record.record())
    page = watched(write_report(tmp_path))
    assert page.locator("#positions .plot").count() == 5
    assert page.locator("#similarity-layer-value").text_content() == "4"
    page.locator("#similarity-layer").press("ArrowLeft")
    assert page.locator("#similarity-layer-value").text_content() == "3"
    page.locator("#sweep-vector").select_option("0")
    assert "0.8" in page.locator("#positions").text_content()


def test_phases_are_drawn_and_chosen_by_form_and_outcome(tmp_path: Path, watched: Callable[..., Any]) -> None:
    write_study(tmp_path, phases_record.record())
    page = watched(write_report(tmp_path))
    assert page.locator("#phases .plot").count() == 2
    safe, content, _ = drawn(page, "plot-phases")
    assert (len(safe["x"]), len(content["x"])) == (3 + 1, 1 + 3)  # before and after
    page.locator("#phases-outcome").select_option(label="refuses")
    safe, content, _ = drawn(page, "plot-phases")
    assert (len(safe["x"]), len(content["x"])) == (2, 0)  # the one that the edited model refuses, before and after
    page.locator("#phases-outcome").select_option("0")
    page.locator("#phases-form").select_option("1")
    assert [len(trace["x"]) for trace in drawn(page, "plot-phases")] == [0, 8, 8]


def test_clusters_are_drawn_with_their_phrases_on_hover(tmp_path: Path, watched: Callable[..., Any]) -> None:
    write_study(tmp_path, clusters_record.record())
    page = watched(write_report(tmp_path))
    assert page.locator("#clusters .plot").count() == 4
    first, second, stars = drawn(page, "plot-clusters")
    assert [len(one["x"]) for one in (first, second, stars)] == [2, 1, 2]
    curves = drawn(page, "plot-stability")  # stability, and below it silhouette
    own, gaussian, shuffled, harmless = (
        "harmful prompts",
        "Gaussian, 95%",
        "shuffled coordinates, 95%",
        "harmless phrases",
    )
    assert [one["name"] for one in curves] == 2 * [own, gaussian, shuffled, harmless]
    (matrix,) = drawn(page, "plot-cluster-effects")
    assert [len(row) for row in matrix["z"]] == [2, 2, 2]
