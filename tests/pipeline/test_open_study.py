"""Opening what a study asks: what does not fit is said before weights are loaded."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from abliterate.errors import InputError
from abliterate.pipeline.open_study import asked, open_study, quick_forms
from abliterate.pipeline.study_options import QUICK_NOTE, StudyOptions
from abliterate.prompts.forms import load_forms
from abliterate.studies.common import Verdict
from fixtures.tiny_chat import TINY

FORM = """
[[form]]
name = "{name}"
where = "{where}"
sentence = "complete"
{text}
"""


def study_options(**changes: object) -> StudyOptions:
    return StudyOptions(str(TINY), phrases="builtin:phrases-tiny", device="cpu", **changes)  # type: ignore[arg-type]


def test_a_quick_study_has_few_phrases_and_forms_and_no_verdicts(tmp_path: Path, cache: Path) -> None:
    opened = open_study("positions", study_options(quick=True, out=tmp_path / "out"), 8)
    assert len(opened.phrases) == 24
    assert opened.forms.names == ("question", "open", "reply-open")
    record = opened.record({"layer": 3}, {}, {}, [Verdict("a", "b", "c", "same", "d")])
    assert record.verdicts[0].verdict == record.notes[0] == QUICK_NOTE
    assert record.settings["layer"] == 3
    opened.kept.once("unit", lambda: 1)
    path = opened.finish(record, {}, [{"text": "no"}])
    assert path == tmp_path / "out" / "positions.json"
    assert json.loads(path.read_text())["model"] == TINY.name
    assert not opened.kept.path.exists()


def test_forms_of_a_quick_study_are_of_different_kinds() -> None:
    chosen = quick_forms(load_forms().forms)
    assert len({(form.where, form.sentence) for form in chosen}) == 3
    raw = [form for form in load_forms() if form.where == "raw"]
    assert quick_forms(raw) == tuple(raw)


def test_a_model_without_a_template_is_asked_raw_forms_only(tmp_path: Path) -> None:
    bare = Path(shutil.copytree(TINY, tmp_path / "bare"))
    (bare / "chat_template.jinja").unlink()
    opened = open_study("phases", StudyOptions(str(bare), phrases="builtin:phrases-tiny", device="cpu"), 8)
    assert opened.forms.names == ("raw-closed", "raw-open")
    assert "no chat template: raw forms only, without question" in opened.notes[0]
    only = tmp_path / "forms.toml"
    only.write_text(FORM.format(name="one", where="user", text='user = "How do I {p}?"'))
    with pytest.raises(InputError, match="no chat template, and none of the forms"):
        open_study("phases", StudyOptions(str(bare), forms=str(only), device="cpu"), 8)


def test_forms_that_render_alike_for_this_model_are_refused(tmp_path: Path) -> None:
    """The tokenizer drops what the file's own check tells apart."""
    forms = tmp_path / "forms.toml"
    forms.write_text(
        FORM.format(name="one", where="user", text='user = "How do I {p}?"')
        + FORM.format(name="two", where="user", text='user = "How do I {p}"')
    )
    template = tmp_path / "template.jinja"
    template.write_text("{{ messages[-1].content | replace('?', '') }}")
    with pytest.raises(InputError, match=r"changes|render alike"):
        open_study("positions", study_options(forms=str(forms), chat_template=template), 8)


def test_forms_are_chosen_by_name() -> None:
    assert asked(StudyOptions("model", only=("open", "question")))[1].names == ("open", "question")
    with pytest.raises(InputError, match="none-such: unknown; there are question"):
        asked(StudyOptions("model", only=("none-such",)))


def test_phrases_of_another_language_are_loaded_with_its_forms() -> None:
    phrases, forms = asked(StudyOptions("model", language="ko"))
    assert phrases.language == "ko"
    assert all(form.language == "ko" for form in forms)
