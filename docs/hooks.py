"""What the site takes from the package while it is built, so that no page can say otherwise than the code.

A comment that stands alone on its line becomes what it names:

    <!-- verbs -->            every verb with its help, a link each
    <!-- flags: evaluate -->  arguments and flags of a verb
    <!-- public names -->     what `abliterate` exports, each with its docstring
    <!-- files: storage -->   the files of a folder of the package, with the first sentence of each; `.` is its root
    <!-- security -->         SECURITY.md
"""

from __future__ import annotations

import ast
import html
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import typer

import abliterate
from abliterate.cli.app import app

MARK = re.compile(r"^<!-- (verbs|flags|public names|files|security)(?:: ([\w./-]+))? -->$", re.M)
PACKAGE = Path(abliterate.__file__).parent


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Return a page with its marks filled in; mkdocs calls this for every page."""
    return MARK.sub(lambda found: FILLED[found[1]](found[2] or ""), markdown)


def commands() -> dict[str, Any]:
    """Return the verbs of the command, in the order of its help."""
    import abliterate.cli  # noqa: F401 - every verb registers itself

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def verbs(_: str = "") -> str:
    """Return a list of all verbs with the first sentence of their help."""
    return "\n".join(f"- [`{name}`]({name}.md): {first_line(one.help)}" for name, one in commands().items())


def flags(verb: str) -> str:
    """Return the arguments and flags of a verb, or of each verb of a family, as definition lists, one for each panel of its help."""
    command = commands()[verb]
    members: dict[str, Any] = getattr(command, "commands", {})
    if members:
        return "\n".join(f"## {verb} {name}\n\n{one.help}\n\n{flags_of(name, one)}" for name, one in members.items())
    return flags_of(verb, command)


def flags_of(verb: str, command: Any) -> str:
    """Return those of one command."""
    context = command.make_context(verb, [], resilient_parsing=True)
    panels: dict[str, list[str]] = {}
    for parameter in command.params:
        shown = parameter.get_help_record(context)
        if shown is not None:
            panel = getattr(parameter, "rich_help_panel", None)
            title = panel if isinstance(panel, str) else "Flags" if parameter.opts[0].startswith("-") else "Arguments"
            panels.setdefault(title, []).append(f"`{shown[0]}`\n:   {plain(shown[1])}\n")
    return "\n".join(f"### {title}\n\n" + "\n".join(entries) for title, entries in panels.items())


def plain(text: str) -> str:
    """Return a help text or a docstring as markdown that shows it to the letter, code between backquotes apart."""
    words = re.split(r"(`[^`]+`)", text.replace("\\[", "["))
    return "".join(
        word if word.startswith("`") else re.sub(r"([*_`\[\]])", r"\\\1", html.escape(word, quote=False))
        for word in words
    )


def public_names(_: str = "") -> str:
    """Return a directive for each public name, by the module that defines it: functions, classes, then errors."""
    found = {name: getattr(abliterate, name) for name in abliterate.__all__}
    parts = []
    for title, belongs in (("Functions", False), ("Classes", True)):
        parts.append(f"## {title}\n")
        parts += [
            f"::: {one.__module__}.{one.__qualname__}\n" for one in found.values() if isinstance(one, type) is belongs
        ]
    return "\n".join(parts)


def files(room: str) -> str:
    """Return the files of a folder of the package, each with the first sentence of its docstring."""
    folder = PACKAGE / room
    if not folder.is_dir():
        raise FileNotFoundError(f"docs/layout.md names {room}/, which is not in the package")
    paths = sorted(folder.glob("*.py") if room == "." else folder.rglob("*.py"))
    listed = [
        (path.relative_to(folder), ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))) for path in paths
    ]
    return "\n".join(f"- `{name}`: {plain(first_line(said))}" for name, said in listed if said and name.stem[0] != "_")


def first_line(text: str | None) -> str:
    """Return the first paragraph of a docstring, up to the end of its first sentence."""
    paragraph = " ".join((text or "").partition("\n\n")[0].split())
    return re.split(r"(?<=[.:]) (?=[A-Z`])", paragraph)[0]


FILLED: dict[str, Callable[[str], str]] = {
    "verbs": verbs,
    "flags": flags,
    "public names": public_names,
    "files": files,
    "security": lambda _: (Path(__file__).parents[1] / "SECURITY.md").read_text(encoding="utf-8"),
}
