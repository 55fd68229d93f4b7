"""The report page: what it says is what the files say, in a browser that is told to complain about everything."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from abliterate.errors import InputError
from abliterate.evaluation.statistics import Rate
from abliterate.report import text
from abliterate.report.gather import tidy
from abliterate.report.page import write_report

FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update",
         "--disable-sync", "--no-first-run"]  # fmt: skip
LAYERS, PROMPTS = 6, 25
HOSTILE = (
    "<script>window.hacked = 1</script></script><img src=x onerror='window.hacked = 2'>{{7*7}}\u2028\u202egnirts"
    '\u202c&lt;b&gt; <a href="https://example.org">link</a> ${window.hacked = 3} %{x} <!-- <script>'
)
SECTIONS = (
    "figures",
    "evaluation",
    "separation",
    "activations",
    "selection",
    "strengths",
    "search",
    "replies",
    "proof",
    "repeat",
)


def rate(count: int, total: int) -> dict[str, Any]:
    return Rate(count, total).to_json()


def mean(value: float) -> dict[str, Any]:
    return {"mean": value, "count": PROMPTS, "low": value / 2, "high": value * 2}


def manifest() -> dict[str, Any]:
    tensors = [
        {"name": f"model.layers.{layer}.{name}", "norm_before": 13.5 + layer, "norm_after": 13.25 + layer,
         "component_before": 1.5, "component_after": 2e-6, "leak": None}
        for layer in range(LAYERS) for name in ("attn.o_proj.weight", "mlp.down_proj.weight")
    ]  # fmt: skip
    strengths = {"embed": 0.25, "attn": [0.5 + layer / 10 for layer in range(LAYERS)], "mlp": 1.25}
    return {
        "abliterate": "0.1.0",
        "versions": {"python": "3.11.7", "torch": "2.13.0"},
        "source": {"model": "house/chat", "revision": "abc123", "files": {"model.safetensors": "7b28" * 16}},
        "seed": 3,
        "command": ["abliterate", "house/chat", "--system", "Be brief; it's late", "--out", "edited"],
        "prompts": {side: {"spec": f"{side}.txt", "digest": "d76d" * 16, "used": 80, "report": PROMPTS} for side in ("harmful", "harmless")},
        "direction": {"name": "learned", "method": "projected", "layer": None, "position": -1},
        "selection": {"bypass": -9.3, "induce": 4.9, "kl": 0.0074},
        "search": {
            "original": {"refusals": 30, "prompts": 30}, "chosen": 1, "tokens": {},
            "points": [
                {"pressure": None, "refusals": 2, "prompts": 30, "kl": 0.05, "incoherent": 0, "strengths": {"embed": 1.0}},
                {"pressure": 0.5, "refusals": 1, "prompts": 30, "kl": 0.01, "incoherent": 0, "strengths": strengths},
                {"pressure": 0.1, "refusals": 9, "prompts": 30, "kl": 0.002, "incoherent": 0, "strengths": strengths},
            ],
        },
        "recipe": {"direction": "learned", "strengths": strengths},
        "tensors": tensors,
        "proof": {"kind": "agreement", "largest": 0.0058, "limit": 0.08, "holds": True, "before": None,
                  "per_layer": [0.0, *(0.001 * layer for layer in range(1, LAYERS + 1))]},
        "left_alone": ["vision_tower"],
        "figures": {
            "reply_tokens": 32,
            "original": {"harmful_refusals": rate(24, 25), "harmless_refusals": rate(1, 25)},
            "edited": {"harmful_refusals": rate(2, 25), "harmless_refusals": rate(0, 25)},
            "kl": {"first_token": mean(0.291), "first_token_answered": mean(0.0138), "over_replies": mean(7.5e-5)},
        },
    }  # fmt: skip


def replies(model: str) -> dict[str, Any]:
    sides = {}
    for side in ("harmful", "harmless"):
        refused = [side == "harmful" and (model == "original" or number == 7) for number in range(PROMPTS)]
        sides[side] = [
            {
                "prompt": f"{side} prompt {number}",
                "reply": "I can't do that." if no else f"{model} reply {number}",
                "refused": no,
            }
            for number, no in enumerate(refused)
        ]
    return sides


def observations() -> dict[str, Any]:
    cloud = [[float(number), number**2 / 7] for number in range(PROMPTS)]
    return {
        "format": 1,
        "separation": {
            "positions": [-2, -1], "layers": [*range(LAYERS + 1)],
            "auc": [[None, *(0.5 + layer / 20 for layer in range(LAYERS))]] * 2,
            "d": [[None, *(layer / 2 for layer in range(LAYERS))]] * 2,
        },
        "pca": {
            "position": -1,
            "prompts": {side: [f"{side} prompt {number}" for number in range(PROMPTS)] for side in ("harmful", "harmless")},
            "layers": [
                {"layer": layer, "explained": [0.4, 0.1], "harmful": [[x + layer, y] for x, y in cloud],
                 "harmless": [[-x - layer, y] for x, y in cloud]}
                for layer in range(LAYERS + 1)
            ],
        },
        "candidates": [
            {"layer": layer, "position": position, "bypass": layer - 3.5 + position, "induce": 1.5 if layer == 3 else None,
             "kl": 0.002 if layer == 3 else None}
            for layer in range(1, 5) for position in (-2, -1)
        ],
        "chosen": {"layer": 3, "position": -1},
        "replies": {"original": replies("original"), "edited": replies("edited")},
    }  # fmt: skip


def evaluation() -> dict[str, Any]:
    def labels(refused: int) -> dict[str, Any]:
        return {
            "complied": rate(24 - refused, 25),
            "hedged": rate(1, 25),
            "refused": rate(refused, 25),
            "incoherent": rate(0, 25),
        }

    def labelled(model: str) -> dict[str, Any]:
        return {
            side: [
                {**one, "label": "refused" if one["refused"] else "hedged" if number == 3 else "complied"}
                for number, one in enumerate(ones)
            ]
            for side, ones in replies(model).items()
        }

    paired = {"gained": 0, "lost": 21, "p": 9.5e-7, "test": "McNemar, exact"}
    difference = {"value": 0.011, "low": -0.002, "high": 0.03, "p": 0.12, "test": "paired bootstrap"}
    return {
        "format": 1, "model": "edited", "against": "house/chat", "settings": {"reply_tokens": 128, "judge": "rules"},
        "sets": {"harmful": {"model": labels(2), "against": labels(23), "paired": paired},
                 "look-alikes": {"model": labels(0), "against": None, "paired": None}},
        "figures": {
            "KL, last prompt token": {"model": mean(0.2), "against": None, "difference": None, "unit": "nats"},
            "top-1 agreement": {"model": mean(0.45), "against": None, "difference": None, "unit": "share"},
            "cross-entropy": {"model": mean(0.412), "against": mean(0.401), "difference": difference, "unit": "nats"},
        },
        "by_length": [{"tokens": tokens, "harmful": {"model": rate(2, 25), "against": rate(23, 25)}} for tokens in (16, 32)],
        "tasks": {"arc_easy": {"acc": {"model": rate(61, 200), "against": rate(63, 200)}}},
        "replies": {"model": labelled("edited"), "against": labelled("original")},
    }  # fmt: skip


def folder_of(path: Path, main: object, observed: object = None, evaluated: object = None) -> Path:
    """Write the records of a checkpoint; None writes none."""
    records = {"abliterate.json": main, "observations.json": observed, "evaluation.json": evaluated}
    for name, record in records.items():
        if record is not None:
            (path / name).write_text(json.dumps(record), encoding="utf-8")
    return path


def changed(record: Any, place: list[Any], value: object) -> Any:
    """Return the record with another value at one place."""
    whole = copy.deepcopy(record)
    held = whole
    for step in place[:-1]:
        held = held[step]
    held[place[-1]] = value
    return whole


# ---------------------------------------------------------------- the file


class Scripts(HTMLParser):
    """Collects the policy and the content of each script element."""

    def __init__(self) -> None:
        super().__init__()
        self.policy, self.kinds, self.texts = "", [], []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        held = dict(attrs)
        if held.get("http-equiv") == "Content-Security-Policy":
            self.policy = held["content"] or ""
        if tag == "script":
            self.kinds.append(held.get("type"))
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.texts[-1] += data


def test_the_policy_names_the_scripts_that_are_there_and_nothing_else(tmp_path: Path) -> None:
    hostile = changed(observations(), ["replies", "edited", "harmful", 0, "reply"], HOSTILE)
    page = write_report(folder_of(tmp_path, manifest(), hostile)).read_text(encoding="utf-8")
    found = Scripts()
    found.feed(page)
    assert found.kinds == ["application/json", None, None]
    hashes = [base64.b64encode(hashlib.sha256(one.encode()).digest()).decode() for one in found.texts[1:]]
    assert found.policy.split("; ")[:2] == [
        "default-src 'none'",
        f"script-src 'sha256-{hashes[0]}' 'sha256-{hashes[1]}'",
    ]
    assert found.texts[0].isascii()
    assert not set("<>&") & set(found.texts[0])
    held = json.loads(found.texts[0])
    assert held["explorers"][0]["pairs"][0]["replies"][1]["text"] == HOSTILE


def test_the_page_replaces_an_older_one_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, manifest())
    (folder / "report.html").write_text("old")
    assert write_report(folder) == folder / "report.html"
    assert "house/chat" in (folder / "report.html").read_text(encoding="utf-8")
    (tmp_path / "elsewhere").mkdir()
    assert write_report(folder, tmp_path / "elsewhere" / "page.html").is_file()
    assert {path.name for path in tmp_path.rglob("*")} == {"abliterate.json", "report.html", "elsewhere", "page.html"}
    assert (folder / "report.html").read_bytes() == (tmp_path / "elsewhere" / "page.html").read_bytes()
    assert (folder / "report.html").stat().st_size < 5.5e6


def test_a_page_that_cannot_be_written_leaves_nothing(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, manifest())
    with pytest.raises(InputError, match=r"cannot be written .*; choose another place with --out"):
        write_report(folder, tmp_path / "missing" / "page.html")
    (tmp_path / "page.html").mkdir()
    with pytest.raises(InputError, match="cannot be written"):
        write_report(folder, tmp_path / "page.html")
    assert {path.name for path in tmp_path.iterdir()} == {"abliterate.json", "page.html"}
    with pytest.raises(InputError, match=r"give it a name that ends in \.html"):
        write_report(folder, tmp_path / "abliterate.json")


def test_a_folder_that_abliterate_did_not_write_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="it was not written by abliterate"):
        write_report(tmp_path)


def test_without_the_library_that_draws_the_message_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    with pytest.raises(InputError, match=r"pip install 'abliterate\[report\]'"):
        write_report(folder_of(tmp_path, manifest()))


@pytest.mark.parametrize(
    ("name", "place", "value", "message"),
    [
        ("manifest", ["tensors"], None, "abliterate.json: tensors should be a list, not null"),
        ("manifest", ["proof", "holds"], 1, "abliterate.json: proof.holds should be true or false, not a whole number"),
        ("manifest", ["search", "chosen"], 3, "abliterate.json: search.chosen is 3, not one of the points"),
        ("manifest", ["recipe", "strengths", "mlp"], "1", "strengths.mlp should be a number, not text"),
        ("observations", ["format"], 2, "observations.json: has format 2, this version reads 1"),
        ("observations", ["pca"], {}, "observations.json: pca.position is missing"),
        ("observations", ["candidates", 2, "layer"], True, "candidates\\[2\\].layer should be a whole number, not true or false"),
        ("observations", ["separation", "auc", 1], [0.5], "separation.auc should have a row for each position"),
        ("observations", ["pca", "layers", 1, "harmful"], [[1.0, 2.0]], "pca.layers\\[1\\].harmful should have two numbers for each"),
        ("observations", ["pca", "layers", 1, "explained"], [1.0], "pca.layers\\[1\\].explained should have two numbers"),
        ("observations", ["replies", "edited", "harmful", 4, "prompt"], "other", "replies, harmful should be to the same prompts"),
        ("evaluation", ["sets", "harmful", "model", "refused", "count"], 1.5, "sets.harmful.model.refused.count should be a whole number, not a number"),
        ("evaluation", ["by_length", 0, "harmful"], 3, "by_length\\[0\\].harmful should be an object, not a whole number"),
        ("evaluation", ["figures"], [], "evaluation.json: figures should be an object, not a list"),
        ("evaluation", ["replies", "against", "harmless"], [], "replies, harmless should be to the same prompts"),
    ],
)  # fmt: skip
def test_a_malformed_record_is_named_with_the_place(
    tmp_path: Path, name: str, place: list[Any], value: object, message: str
) -> None:
    records = {"manifest": manifest(), "observations": observations(), "evaluation": evaluation()}
    records[name] = changed(records[name], place, value)
    with pytest.raises(InputError, match=message) as raised:
        write_report(folder_of(tmp_path, records["manifest"], records["observations"], records["evaluation"]))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "report.html").exists()


def test_a_record_that_is_no_json_is_named(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, manifest())
    for wrong, message in (("{", "cannot be read"), ("[]", "the file should be an object, not a list")):
        (folder / "observations.json").write_text(wrong)
        with pytest.raises(InputError, match=f"observations.json: {message}"):
            write_report(folder)


def test_figures_read_as_in_print() -> None:
    shown = [text.number(value) for value in (0, 1, 0.29144, -0.002, 7.1e-5, 12345.6, None)]
    assert [one.replace(text.TIED, " ") for one in shown] == ["0", "1", "0.291", "−0.002", "7.1 × 10⁻⁵", "12,346", "–"]
    assert [text.share(value) for value in (0.0, 1.0, 0.0322, None)] == ["0%", "100%", "3.2%", "–"]
    assert text.rate(rate(0, 42)).replace(text.TIED, " ") == "0/42 = 0% [0%, 8.4%]"
    assert text.estimate(None) == "–"
    assert tidy({"a": [float("nan"), 1.0], "b": float("inf")}) == {"a": [None, 1.0], "b": None}


# ---------------------------------------------------------------- the browser


def lacking(reason: str) -> None:
    """Skip with the reason; where everything is meant to be installed, fail instead."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


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
    path = os.environ.get("ABLITERATE_CHROMIUM") or shutil.which("chromium")
    if path is None:
        lacking("no Chromium; set ABLITERATE_CHROMIUM to one")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        lacking("playwright is not installed; pip install playwright")
    with sync_playwright() as playwright:
        held = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield held
        held.close()


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
        page = context.new_page()
        page.on(
            "console",
            lambda message: self.complaints.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog {dialog.message}"))
        page.add_init_script(
            "addEventListener('securitypolicyviolation', (event) => console.error('policy', event.violatedDirective))"
        )
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
    labels = cells(page, "Replies by label.")
    assert labels[0] == ["harmful", "refused", "23/25 = 92.0% [75.0%, 97.8%]", "2/25 = 8.0% [2.2%, 25.0%]"]
    assert labels[4][:3] == ["look-alikes", "refused", "–"]
    assert cells(page, "prompt by prompt") == [
        ["harmful", "0 refusals gained, 21 lost; p = 9.5 × 10⁻⁷ (McNemar, exact)"]
    ]
    figures = {row[0]: row[1:] for row in cells(page, "Divergence and quality.")}
    assert figures["top-1 agreement"] == ["–", "45.0% [22.5%, 90.0%]", "–"]
    assert figures["cross-entropy (nats)"][2] == "0.011 [−0.002, 0.03]; p = 0.12 (paired bootstrap)"
    assert cells(page, "Tasks.") == [
        ["arc_easy", "acc", "63/200 = 31.5% [25.5%, 38.2%]", "61/200 = 30.5% [24.5%, 37.2%]"]
    ]
    assert [trace["x"] for trace in drawn(page, "plot-length")] == [[16, 32], [16, 32]]
    assert {trace["name"]: len(trace["x"]) for trace in drawn(page, "plot-evaluation")} == {"against": 4, "model": 8}


@pytest.mark.parametrize(
    ("change", "gone"),
    [
        (lambda m, o, e: (m, o, None), {"evaluation"}),
        (lambda m, o, e: (m, None, e), {"separation", "activations", "selection"}),
        (lambda m, o, e: (m, None, None), {"separation", "activations", "selection", "replies", "evaluation"}),
        (lambda m, o, e: (changed(m, ["search"], None), o, e), {"search"}),
        (lambda m, o, e: (m, changed(o, ["candidates"], []), e), {"selection"}),
        (
            lambda m, o, e: ({**m, "search": None, "figures": None, "selection": None, "prompts": None}, None, None),
            {"figures", "search", "separation", "activations", "selection", "replies", "evaluation"},
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
    page.locator("#layer").scroll_into_view_if_needed()
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


def test_nothing_moves_for_who_asks_for_it(watched: Watched, full: Path) -> None:
    behaviour = "getComputedStyle(document.documentElement).scrollBehavior"
    assert watched(full).evaluate(behaviour) == "smooth"
    assert watched(full, reduced_motion="reduce").evaluate(behaviour) == "auto"


@pytest.mark.parametrize("width", [320, 360, 768])
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
