"""`--config FILE`: the options of a verb from a TOML or YAML file; what stands on the command line has the say.

The file knows what the verb knows: its keys are looked up among the parameters that typer has of it.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from abliterate.errors import InputError, first_line
from abliterate.records.option import Declaration

MAX_BYTES = 1 << 20
"""The most that is read of a file of options."""

TYPED_ONLY: Mapping[str, str] = {
    "config": "a file names no other; leave it out",
    "json": "belongs on the command line; leave it out",
}
"""Flags that no file sets, and why."""

SWITCH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
"""Words for a switch in YAML, where every value is read as the text that it is: `thinking: on` is a word."""


def config_reader(known: Mapping[str, Declaration]) -> Callable[[Any, Path | None], Path | None]:
    """Return what typer calls with the file of `--config`: it makes what stands there the defaults of the verb.

    `known` are the declared options by the names of their parameters.
    """

    def take(context: Any, config: Path | None) -> Path | None:
        if config is not None and not context.resilient_parsing:
            context.default_map = {**(context.default_map or {}), **values_of(config, context, known)}
        return config

    return take


def values_of(config: Path, context: Any, known: Mapping[str, Declaration]) -> dict[str, Any]:
    """Return what a file says of the parameters of a verb, by their names.

    Raises InputError with the file and the key for what is no option of the verb, cannot be its value, or is not a file's to decide.
    """
    parameters = {key: one for one in context.command.params for key in keys_of(one)}
    found: dict[str, Any] = {}
    for written, value in read_table(config).items():
        key = str(written).replace("_", "-")
        one = parameters.get(key)
        if one is None:
            raise InputError(f"{config}: {written}: {context.command.name} has no such option{meant(key, parameters)}")
        declaration = known.get(one.name)
        if reason := TYPED_ONLY.get(key) or (declaration and declaration.refused):
            raise InputError(f"{config}: {written}: {reason}")
        if one.name in found:
            raise InputError(f"{config}: {written}: stands there twice, under two names; leave one out")
        try:
            found[one.name] = checked(as_typed(value, one), declaration, config.parent)
        except ValueError as error:
            raise InputError(f"{config}: {written}: {error}") from None
    return found


def keys_of(parameter: Any) -> list[str]:
    """Return the names that a parameter has in a file: its long flags without dashes, an argument's own."""
    return [name.removeprefix("--") for name in parameter.opts if name.startswith("--") or not name.startswith("-")]


def meant(key: str, keys: Mapping[str, Any]) -> str:
    """Return which option was meant, or how to see those that there are."""
    alike = difflib.get_close_matches(key, [*keys], 1)
    return f"; did you mean {alike[0]}?" if alike else "; --help lists those that there are"


def as_typed(value: Any, parameter: Any) -> Any:
    """Return a value as it would be typed: texts of an argument that takes several, a switch, else a text.

    Raises ValueError for what is no value of such a parameter.
    """
    if parameter.nargs == -1:
        return [scalar(one) for one in (value if isinstance(value, list) else [value])]
    if getattr(parameter, "is_flag", False):
        switch = value if isinstance(value, bool) else SWITCH.get(value.lower()) if isinstance(value, str) else None
        if switch is None:
            raise ValueError("is a switch: give true or false")
        return switch
    return ",".join(map(scalar, value)) if isinstance(value, list) else scalar(value)


def scalar(value: Any) -> str:
    """Return one value as it would be typed. Raises ValueError for a table, a list, nothing and a truth value."""
    if isinstance(value, bool):
        raise ValueError("is no switch: give a text, between quotes")
    if value is None or isinstance(value, dict | list):
        raise ValueError("give one value, or leave it out")
    return str(value)


def checked(value: Any, declaration: Declaration | None, folder: Path) -> Any:
    """Return what typer takes, a file that lies beside the config file by its path.

    Raises ValueError for what the option cannot be; what a verb declares for itself typer checks.
    """
    if declaration is None or not isinstance(value, str):
        return value
    if declaration.kind is Path:
        value = str(Path(value).expanduser())
    value = located(value, declaration, folder)
    if declaration.kind in (int, float):
        number = as_number(value, declaration.kind)
        if declaration.least is not None and number < declaration.least:
            raise ValueError(f"give at least {declaration.least}")
    else:
        declaration.typed(value)
    return value


def as_number(text: str, kind: type) -> int | float:
    """Return the number that a text is. Raises ValueError with the way out."""
    try:
        return kind(text)  # type: ignore[no-any-return]
    except ValueError:
        raise ValueError(f"give a {'whole ' if kind is int else ''}number, not {text!r}") from None


def located(text: str, declaration: Declaration, folder: Path) -> str:
    """Return what is typed for a file that lies beside the config file, where the option names one; else the text itself."""
    if declaration.locate is not None:
        from abliterate.pipeline.command import beside

        with suppress(InputError):
            return declaration.text(declaration.locate(text, lambda name: beside(name, folder, "config")))
    return text


def read_table(config: Path) -> Mapping[Any, Any]:
    """Return the table that a file holds. Raises InputError where it cannot be read or holds none."""
    from abliterate.storage.foreign_files import open_foreign

    readers = {".toml": read_toml, ".yaml": read_yaml, ".yml": read_yaml}
    reader = readers.get(config.suffix.lower())
    if reader is None:
        raise InputError(f"--config {config}: give a file whose name ends in .toml, .yaml or .yml")
    try:
        with open_foreign(config.expanduser()) as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(f"--config {config}: cannot be read ({error.strerror or first_line(error)})") from None
    if len(content) > MAX_BYTES:
        raise InputError(f"--config {config}: is larger than {MAX_BYTES >> 20} MiB, and no file of options")
    try:
        table = reader(content.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise InputError(f"--config {config}: cannot be read ({first_line(error)})") from None
    if not isinstance(table, dict):
        raise InputError(f"--config {config}: expected a table, an option a line")
    return table


def read_toml(text: str) -> Any:
    """Return the table of a TOML file. Raises ValueError for what is none."""
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    return tomllib.loads(text)


def read_yaml(text: str) -> Any:
    """Return what a YAML file holds, every value as the text that it is, null excepted. Raises ValueError for what is none."""
    import yaml

    class Texts(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        """The safe loader without its guesses, under which `off` is no word, and 2024-05-01 no text."""

        yaml_implicit_resolvers: Mapping[str, Sequence[Any]] = {
            mark: [one for one in known if one[0] == "tag:yaml.org,2002:null"]
            for mark, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
            """Refuse a key that stands there twice, of which the last would win."""
            names = [key.value for key, _ in node.value]
            if twice := next((name for name in names if names.count(name) > 1), None):
                raise ValueError(f"{twice} stands there twice")
            found: dict[Any, Any] = super().construct_mapping(node, deep)
            return found

    try:
        return yaml.load(text, Loader=Texts) or {}
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from None
