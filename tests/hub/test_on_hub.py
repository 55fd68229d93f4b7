"""Directions and activations on the Hub: pushed to a real server on this machine, and read from there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from abliterate.activations.capture import Activations
from abliterate.directions.directions import Directions
from abliterate.errors import InputError
from abliterate.hub.on_hub import OnHub
from fixtures.activations import POSITIONS, activations
from fixtures.hub import EXPIRED, make_result
from servers.hub_client import Client
from servers.hub_server import HubServer

MADE = """
import torch
from abliterate import Activations, Directions
torch.manual_seed(0)
directions = Directions(torch.randn(2, 5, 12, dtype=torch.float64), (-2, -1), "mean-difference", {"model": "x"})
activations = Activations(torch.randn(9, 2, 5, 12), (-2, -1))
"""


@pytest.mark.parametrize(("name", "kind"), [("directions", "Directions"), ("activations", "Activations")])
def test_what_is_pushed_comes_back_to_the_bit(hub: HubServer, client: Client, name: str, kind: str) -> None:
    client.run(f"{MADE}\nvalue = {name}.push_to_hub('me/{name}')")
    repository = hub.repositories[f"me/{name}"]
    assert repository.visibility == "private"
    assert set(repository.contents) == {".gitattributes", "README.md", "config.json", f"{name}.safetensors"}
    assert f"{kind}.from_pretrained" in repository.contents["README.md"].decode()
    assert repository.commits[-1].message == f"Upload {name}.safetensors with abliterate"
    same = "torch.equal(*(one.differences if hasattr(one, 'differences') else one.resid for one in (found, made)))"
    for options in ("", ", local_files_only=True"):  # the second from the Hub's cache on this machine alone
        text = f"{MADE}\nmade = {name}\nfound = {kind}.from_pretrained('me/{name}'{options})\nvalue = {same}"
        assert client.run(text) is True


def test_a_branch_and_a_public_repository_are_made_when_asked(hub: HubServer, client: Client) -> None:
    client.run(f"{MADE}\nvalue = directions.push_to_hub('team/open-directions', private=False, commit_message='mine')")
    assert hub.repositories["team/open-directions"].visibility == "public"
    assert hub.repositories["team/open-directions"].commits[-1].message == "mine"
    oid = hub.repositories["team/open-directions"].commits[-1].oid
    text = f"{MADE}\nvalue = Directions.from_pretrained('team/open-directions@{oid}').digest == directions.digest"
    assert client.run(text) is True


def test_a_repository_that_holds_a_model_stays_as_it_is(hub: HubServer, client: Client, tmp_path: Path) -> None:
    client.run(client.push(make_result(tmp_path / "edited"), "me/model"))
    before = hub.repositories["me/model"].contents
    kind, message = client.error(f"{MADE}\ndirections.push_to_hub('me/model')")
    assert kind == "InputError"
    assert "me/model: holds a model (model-00001-of-00002.safetensors)" in message
    assert hub.repositories["me/model"].contents == before


@pytest.mark.parametrize(
    ("text", "kind", "said"),
    [
        ("Directions.from_pretrained('me/nowhere')", "InputError", "me/nowhere: no such model on the Hub"),
        ("Directions.from_pretrained('me/activations-alone')", "InputError", "has no directions.safetensors"),
        ("directions.push_to_hub('nameless')", "InputError", "give one of the form org/name"),
        (f"directions.push_to_hub('me/x', token={EXPIRED!r})", "HubError", "the token was refused (401"),
    ],
)
def test_what_the_hub_refuses_is_one_line(client: Client, text: str, kind: str, said: str) -> None:
    client.run(f"{MADE}\nvalue = activations.push_to_hub('me/activations-alone')")
    found, message = client.error(f"{MADE}\n{text}")
    assert found == kind
    assert said in message


def test_a_folder_takes_part_like_a_repository(tmp_path: Path) -> None:
    made = activations(0)
    found = Directions(torch.randn(2, 5, 12), POSITIONS, "mean-difference")
    for one in (made, found):
        folder = tmp_path / type(one).__name__
        one.save_pretrained(folder)
        assert sorted(path.name for path in folder.iterdir()) == sorted(["README.md", "config.json", one._file])
        assert isinstance(type(one).from_pretrained(folder), OnHub)
    assert torch.equal(Activations.from_pretrained(tmp_path / "Activations").resid, made.resid)
    assert Directions.from_pretrained(str(tmp_path / "Directions" / found._file)).digest == found.digest


def test_a_folder_with_a_model_keeps_its_config(tmp_path: Path) -> None:
    folder = make_result(tmp_path / "edited")
    config = (folder / "config.json").read_bytes()
    with pytest.raises(InputError, match=r"holds a model \(model-00001-of-00002.safetensors\)"):
        activations(0).save_pretrained(folder)
    assert (folder / "config.json").read_bytes() == config
