"""How a model is asked, as far as it was said."""

from __future__ import annotations

from pathlib import Path

from abliterate.pipeline.condition_options import SaidConditions, SaidTemplate
from abliterate.pipeline.options import Options

OPTIONS = Options("x", Path(), system="Be brief.", thinking="on", harmful="a.txt", harmless="b.txt")


def test_what_was_not_said_stays() -> None:
    assert SaidConditions().said == frozenset()
    assert SaidConditions().on(OPTIONS) == OPTIONS


def test_what_was_said_takes_its_place_and_an_empty_text_is_none(tmp_path: Path) -> None:
    template = tmp_path / "t.jinja"
    template.write_text("{{ messages }}")
    said = SaidConditions(system="", thinking="off", harmful="c.txt", chat_template=template)
    assert said.said == {"system", "thinking", "harmful", "chat_template"}
    found = said.on(OPTIONS)
    assert (found.system, found.thinking, found.harmful, found.harmless) == (None, "off", "c.txt", "b.txt")
    assert found.chat_template == template
    assert SaidTemplate(system="Be long.").on(OPTIONS).system == "Be long."
