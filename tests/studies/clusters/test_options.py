"""What a study of clusters is asked."""

from __future__ import annotations

import pytest

from abliterate.studies.clusters.options import BASELINES, ClustersOptions, read_baselines, read_clusters, read_frame


def test_words_and_numbers_are_read() -> None:
    assert (read_clusters("auto"), read_clusters("3")) == ("auto", 3)
    assert read_baselines("categories,som") == ("som", "categories")
    assert read_baselines("none") == ()
    assert (read_frame("all"), read_frame("Tell me how to {p}.")) == ("all", "Tell me how to {p}.")
    assert ClustersOptions().compare == BASELINES


@pytest.mark.parametrize(
    ("read", "text", "said"),
    [
        (read_clusters, "0", "a number of clusters from 1 up"),
        (read_clusters, "many", "a number of clusters from 1 up"),
        (read_baselines, "magic", "choose among som, rdo, categories"),
        (read_frame, "How?", "write {p} where the phrase goes"),
    ],
)
def test_others_are_refused(read: object, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        read(text)  # type: ignore[operator]
