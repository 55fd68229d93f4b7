"""The lab's page: one file with its style and script in it, under a policy that runs no other and asks nobody but its server."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

import abliterate
from abliterate.report.page import as_json

UNFRAMED = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""What no page of the lab may do; that of a report has a policy of its own beside it."""

CLOSED = f"default-src 'none'; {UNFRAMED}"
"""The policy of an answer that is no page: nothing from anywhere."""


def page(data: Mapping[str, Any], title: str, note: Sequence[str], studies: Sequence[str], token: str) -> str:
    """Return the page; `data` is what its script begins with. Whatever models say reaches it later, as text."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(asset("page.html.jinja")).render(
        title=title,
        note=note,
        studies=studies,
        token=token,
        both=len(data["roles"]) > 1,
        version=abliterate.__version__,
        style=Markup(asset("page.css")),
        script=Markup(asset("page.js")),
        data=Markup(as_json({**data, "token": token})),
    )


def policy() -> str:
    """Return the content security policy of the page: its own style and script by their hashes, its own server."""
    return (
        f"{CLOSED}; script-src {hashed('page.js')}; style-src {hashed('page.css')}; connect-src 'self'; img-src data:"
    )


def hashed(name: str) -> str:
    """Return the hash of one of the page's parts, as a policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(asset(name).encode()).digest()).decode()}'"


def asset(name: str) -> str:
    """Return one of the files beside this one, with the line ends that a browser will hash."""
    return (files("abliterate.lab") / "assets" / name).read_text(encoding="utf-8").replace("\r\n", "\n")
