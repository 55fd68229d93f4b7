from __future__ import annotations

from collections.abc import Iterator

import pytest

from abliterate.directions.candidates import Selection
from abliterate.directions.directions import Directions
from abliterate.pipeline.find import capture_training, choose_place, find_directions
from abliterate.pipeline.load import Loaded, load_run
from abliterate.pipeline.replies import TrainingReplies, collect_training_replies
from abliterate.progress import SILENT
from fixtures.search import short_stages
from fixtures.tiny_chat import TINY, options


@pytest.fixture(scope="module", autouse=True)
def short() -> Iterator[None]:
    with short_stages():
        yield


@pytest.fixture(scope="session")
def training_replies(tmp_path_factory: pytest.TempPathFactory) -> tuple[Loaded, TrainingReplies, Directions, Selection]:
    """All that comes before a search, on few prompts."""
    folder = tmp_path_factory.mktemp("session")
    files = {side: folder / f"{side}.txt" for side in ("harmful", "harmless")}
    for path in files.values():
        path.write_text("\n".join((TINY / path.name).read_text().splitlines()[:40]))
    given = {side: str(path) for side, path in files.items()}
    asked = options(folder / "edited", optimize=True, layer=4, **given)
    loaded = load_run(asked, SILENT)
    captured = capture_training(loaded, SILENT)
    said = collect_training_replies(loaded, SILENT)
    directions = find_directions(loaded, said, *captured)
    return loaded, said, directions, choose_place(loaded, said, directions, SILENT)
