"""The lab in a browser that is told to complain about everything: replies, strengths, colours; what models write is text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from abliterate.chat.sides import ChatSides
from abliterate.lab.app import lab_app
from abliterate.lab.page import asset, hashed, page, policy
from abliterate.lab.server import bound, hosts_of, serving
from abliterate.lab.session import Session, Steps, Wish
from fixtures.browser import chromium, watched_page
from fixtures.chat import BAD, GOOD, said
from fixtures.report_records import HOSTILE

TOKEN = "sesame"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    with chromium() as held:
        yield held


@dataclass
class Visitor:
    """Opens the page of a session, and keeps what it asked the network for and what it complained about."""

    browser: Any
    folder: Path
    opened: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)

    def __call__(self, session: Session, width: int = 1100, **how: Any) -> Any:
        held = bound(0)
        hosts = hosts_of(held)
        server = serving(lab_app(session, self.folder, "one model in memory", hosts, TOKEN), held)
        server.__enter__()
        context = self.browser.new_context(viewport={"width": width, "height": 900}, **how)
        self.opened.append((context, session, server, held))
        context.on("request", lambda request: self.asked.append(request.url.removeprefix(f"http://{hosts[0]}")))
        one = watched_page(context, self.complaints)
        one.goto(f"http://{hosts[0]}/?token={TOKEN}")
        return one


@pytest.fixture
def visit(browser: Any, folder: Path) -> Iterator[Visitor]:
    """Opens pages; afterwards no page may have asked for anything but its own server, nor complained."""
    visitor = Visitor(browser, folder)
    yield visitor
    for context, session, server, held in visitor.opened:
        context.close()
        session.stop()
        server.__exit__(None, None, None)
        held.close()
    assert set(visitor.asked) <= {f"/?token={TOKEN}", "/turn", "/stop", "/reset", "data:,"}
    assert not visitor.complaints


def send(one: Any, prompt: str) -> None:
    one.get_by_label("Prompt", exact=True).fill(prompt)
    one.get_by_role("button", name="Send").click()
    measured(one)


def measured(one: Any) -> None:
    """Wait until the last reply has its colours, and the next may be asked for."""
    one.locator("#turns > li:last-child .reply span").first.wait_for()
    one.get_by_role("button", name="Send").wait_for()


def reply(one: Any, role: str) -> str:
    text: str = one.locator(f"#turns > li:last-child [data-role={role}] .reply").text_content()
    return text


def components_of(one: Any, role: str) -> list[float]:
    found: list[str] = one.locator(f"#turns > li:last-child [data-role={role}] .reply span").evaluate_all(
        "(all) => all.map((each) => each.dataset.component)"
    )
    return [float(text.replace("−", "-")) for text in found]


def set_to(one: Any, control: str, value: object) -> None:
    """Move a slider as a hand does."""
    one.locator(control).evaluate(
        "(slider, value) => { slider.value = value; for (const type of ['input', 'change']) slider.dispatchEvent(new Event(type, { bubbles: true })); }",
        str(value),
    )


def test_both_reply_and_the_edited_one_again_at_each_strength(
    visit: Visitor, session: Session, sides: ChatSides
) -> None:
    one = visit(session)
    send(one, BAD)
    expected = {side.role: said(side, BAD)[0] for side in sides.sides}
    assert {role: reply(one, role) for role in expected} == expected
    assert max(map(abs, components_of(one, "original"))) > 0.1
    assert max(map(abs, components_of(one, "edited"))) < 1e-3
    colours = one.locator("[data-role=original] .reply span").evaluate_all(
        "(all) => all.map((each) => getComputedStyle(each).backgroundColor)"
    )
    assert len(set(colours)) > 2
    set_to(one, "#strength", 0)
    one.get_by_text("strength 0.00").wait_for()
    measured(one)
    assert reply(one, "edited") == reply(one, "original") == expected["original"]
    assert components_of(one, "edited") == components_of(one, "original")
    before = components_of(one, "original")
    set_to(one, "#layer", 1)
    assert one.locator("#layer-shown").text_content() == "resid[1]"
    assert components_of(one, "original") != before
    assert not one.locator("#strength-control").is_hidden()


def test_what_a_model_writes_is_text(visit: Visitor, session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    def hostile(self: Session, wish: Wish) -> Steps:
        told = {"text": HOSTILE, "ended": True, "verdict": HOSTILE}
        yield {"replies": {"original": told, "edited": told}}
        found = {"pieces": [HOSTILE, HOSTILE], "reply_from": 1, "components": [[0.5, -0.5]] * 9}
        yield {"measured": {"original": found, "edited": found}}

    monkeypatch.setattr(Session, "turn", hostile)
    one = visit(session)
    send(one, HOSTILE)
    assert reply(one, "edited") == HOSTILE
    assert one.locator("#turns .prompt").text_content() == HOSTILE
    assert one.locator("#turns .verdict").first.text_content() == HOSTILE
    assert one.evaluate("() => window.hacked") is None
    assert one.locator("main script, main img, main a, main b").count() == 0


@pytest.mark.slow
def test_a_script_that_got_into_the_page_would_not_run_nor_send(visit: Visitor, session: Session) -> None:
    one = visit(session)
    one.evaluate(
        """() => {
          const script = document.createElement("script"); script.textContent = "window.hacked = 1"; document.body.append(script);
          const image = document.createElement("img"); image.src = "https://example.org/x"; document.body.append(image);
        }"""
    )
    one.wait_for_timeout(200)
    assert one.evaluate("() => window.hacked") is None
    assert all(text.startswith(("policy", "Executing", "Loading", "Refused")) for text in visit.complaints)
    assert len(visit.complaints) >= 2
    visit.complaints.clear()
    visit.asked[:] = [url for url in visit.asked if "example.org" not in url]


@pytest.mark.slow
def test_a_reply_is_stopped_and_the_conversation_begins_anew(visit: Visitor, begun: Callable[..., Session]) -> None:
    one = visit(begun(temperature=50.0))
    one.get_by_label("Prompt", exact=True).fill(GOOD)
    one.get_by_label("Prompt", exact=True).press("Enter")
    one.get_by_role("button", name="Stop").click()
    measured(one)
    assert "stopped" in one.locator("[data-role=edited] .verdict").text_content()
    one.get_by_label("Prompt", exact=True).fill(GOOD)
    one.get_by_label("Prompt", exact=True).press("Enter")
    one.get_by_role("button", name="Stop").wait_for()
    set_to(one, "#strength", 0.5)  # during a reply: it is stopped, and the edited side asked again
    one.get_by_text("strength 0.50").wait_for()
    one.get_by_role("button", name="Stop").click()
    measured(one)
    one.get_by_role("button", name="New conversation").click()
    one.locator("#turns > li").first.wait_for(state="detached")
    assert one.get_by_text("Type a prompt below").is_visible()


@pytest.mark.slow
@pytest.mark.parametrize(("width", "scheme"), [(390, "light"), (1280, "dark")])
def test_it_fits_a_phone_and_a_dark_screen(visit: Visitor, session: Session, width: int, scheme: str) -> None:
    one = visit(session, width, color_scheme=scheme)
    send(one, BAD)
    send(one, GOOD)
    assert one.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
    paper = one.evaluate("() => getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(16, 19, 23)"}[scheme]
    last, bar = one.locator("[data-role=edited] .reply").last.bounding_box(), one.locator("form").bounding_box()
    assert last["y"] + last["height"] <= bar["y"]
    if width == 390:
        heights = one.evaluate(
            "() => [...document.querySelectorAll('button, select, textarea')].filter((each) => each.offsetParent)"
            ".map((each) => each.getBoundingClientRect().height)"
        )
        assert min(heights) >= 43.5


def test_the_policy_names_what_the_page_runs() -> None:
    text = page({"directions": [], "roles": ["edited"]}, HOSTILE, [HOSTILE], ["positions"], TOKEN)
    assert HOSTILE not in text
    assert "<script>window" not in text
    assert text.count("<script") == 2
    assert hashed("page.js") in policy()
    assert "unsafe" not in policy()
    assert f'href="/report?token={TOKEN}#positions"' in text
    assert json.dumps(TOKEN) in text
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert word not in asset("page.js")
