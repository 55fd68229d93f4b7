"""The verb that opens a lab: what it serves while its context lasts, and what it refuses before anything is loaded."""

from __future__ import annotations

from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest

from abliterate.chat.options import ChatOptions
from abliterate.commands.lab import lab
from abliterate.errors import InputError
from abliterate.lab.server import bound
from abliterate.pipeline.condition_options import SaidTemplate
from abliterate.pipeline.run import Result
from fixtures.tiny_chat import TINY, in_float32


def test_it_is_there_while_its_context_lasts(edited: Result) -> None:
    with lab(in_float32(Path(), model=str(edited.out)), SaidTemplate(), ChatOptions(), str(TINY)) as opened:
        page = urlopen(opened.address).read().decode()
        assert f"<h1>{edited.out.name}</h1>" in page
        assert opened.note.startswith("one model in memory, the edit as hooks")
        with pytest.raises(HTTPError, match="403"):
            urlopen(opened.address[:-1])
        assert not opened.ended.is_set()
    opened.wait()


@pytest.mark.slow
def test_without_an_original_there_is_one_column(edited: Result) -> None:
    with lab(in_float32(Path(), model=str(edited.out)), SaidTemplate(), ChatOptions()) as opened:
        assert [one.side.role for one in opened.session.conversations] == ["edited"]
        assert not opened.session.adjustable


def test_what_is_no_edit_and_a_port_that_is_taken_are_refused(edited: Result) -> None:
    for options, port, words in ((in_float32(Path()), 0, "has no recipe.json"), (None, 1, "--port")):
        with bound(0) as held:
            held.listen()
            taken = held.getsockname()[1] if port else 0
            given = options or in_float32(Path(), model=str(edited.out))
            with pytest.raises(InputError, match=words), lab(given, SaidTemplate(), ChatOptions(), None, taken):
                pass
