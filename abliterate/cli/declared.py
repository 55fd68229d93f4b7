"""From declared options to flags: a verb names groups of options, and is called with what was typed, read and checked."""

from __future__ import annotations

import copy
import inspect
import types
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from abliterate.cli.completion import completer
from abliterate.cli.config_file import config_reader
from abliterate.cli.surroundings import Surroundings
from abliterate.errors import InputError
from abliterate.records.option import (
    KEY,
    PANELS,
    Declaration,
    Panel,
    declarations,
    default_of,
    flag_of,
    names_of,
    panel_of,
)  # fmt: skip

Against = Annotated[
    str | None,
    typer.Option(
        help="The original: it answers beside the edited model.",
        metavar="ORIGINAL",
        rich_help_panel="model",
        show_default=False,
    ),
]
"""Of the verbs in which both sides reply."""

AsJson = Annotated[
    bool,
    typer.Option(
        "--json", help="One JSON object on stdout, also of an error (error, code); everything else on stderr."
    ),
]


@dataclass(frozen=True)
class Flags:
    """Which options of a group a verb has flags for, all of them without `names`; `own` says what one is to this verb."""

    names: tuple[str, ...] = ()
    own: Mapping[str, Declaration] = field(default_factory=dict)


def flags(*names: str, **own: Declaration) -> Flags:
    """Return which options of a group a verb has flags for; those that it declares in its own way come first."""
    return Flags((*own, *names), own)


@dataclass(frozen=True)
class Group:
    """A parameter of a verb that is a class of options; `optional` is None where none of its flags was given."""

    options: type
    known: Mapping[str, Declaration]
    optional: bool = False

    def parameters(self) -> Iterator[inspect.Parameter]:
        """Yield the parameter of each flag, as typer takes them."""
        for name, one in self.known.items():
            usual = default_of(self.options, name)
            required = usual is MISSING and one.usual is None
            shown = None if usual is MISSING or self.optional else default_shown(one, usual)
            parameter = inspect.Parameter(
                parameter_name(name, one),
                inspect.Parameter.KEYWORD_ONLY,
                default=inspect.Parameter.empty if required else shown,
                annotation=Annotated[
                    one.kind if required or shown is not None else one.kind | None,
                    argument(one)
                    if one.argument
                    else typer_option(name, one, shown is not None, panel_of(self.options, name)),
                ],
            )
            yield parameter

    def of(self, typed: Mapping[str, Any]) -> Any:
        """Return the options of what was typed. Raises InputError for what cannot be read, and as their own check does."""
        values: dict[str, Any] = {}
        for name, one in self.known.items():
            text = typed[parameter_name(name, one)]
            if text is not None:
                values[name] = read(name, one, text)
        if self.optional and not values:
            return None
        for name, one in self.known.items():
            if name not in values and one.usual and default_of(self.options, name) is MISSING:
                values[name] = one.usual(values)
        return self.options(**values)


def group_of(annotation: Any) -> Group | None:
    """Return the group of options that a parameter stands for, None for any other parameter."""
    chosen = Flags()
    if get_origin(annotation) is Annotated:
        annotation, *rest = get_args(annotation)
        chosen = next((one for one in rest if isinstance(one, Flags)), chosen)
    optional = get_origin(annotation) in (types.UnionType, Union)
    if optional:
        annotation = next(one for one in get_args(annotation) if one is not type(None))
    if not any(KEY in one.metadata for one in getattr(annotation, "__dataclass_fields__", {}).values()):
        return None
    known = declarations(annotation)
    names = chosen.names or [name for name, one in known.items() if one.offered]
    return Group(annotation, {name: chosen.own.get(name, known[name]) for name in names}, optional)


def declared(function: Callable[..., None], hub: bool = False) -> Callable[..., None]:
    """Return a verb as typer calls it, with a parameter for each flag, for one that takes groups of options.

    Each has the flags of `Surroundings`, those of the Hub where it is said to reach it, or knows --offline.
    """
    hints = get_type_hints(function, include_extras=True)
    parameters = inspect.signature(function).parameters
    groups = {name: group for name in parameters if (group := group_of(hints[name])) is not None}
    flat: list[inspect.Parameter] = []
    for name, one in parameters.items():
        own = one.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=all_names(name, hints[name]))
        flat += groups[name].parameters() if name in groups else [own]

    reaches = hub or any("offline" in group.known for group in groups.values())
    known = declarations(Surroundings)
    around = Group(Surroundings, known if reaches else {"quiet": known["quiet"]})
    flat += around.parameters()
    all_known = {
        parameter_name(name, one): one for group in (*groups.values(), around) for name, one in group.known.items()
    }
    flat.append(config_parameter(all_known))
    flat.sort(key=place_in_help)

    def call(**typed: Any) -> None:
        around.of(typed).take_effect()
        own = {name: typed[name] for name in parameters if name not in groups}
        function(**own, **{name: group.of(typed) for name, group in groups.items()})

    call.__name__, call.__doc__, call.__module__ = function.__name__, function.__doc__, function.__module__
    call.__annotations__ = {one.name: one.annotation for one in flat}
    call.__signature__ = inspect.Signature(flat)  # type: ignore[attr-defined]
    return call


def read(name: str, declaration: Declaration, typed: Any) -> Any:
    """Return the value of what was typed: a text, or what typer has read already."""
    if declaration.kind not in (str, Path):
        return typed
    try:
        return declaration.typed(str(typed))
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{flag_of(name, declaration)} {typed}: {error}") from None


def parameter_name(name: str, declaration: Declaration) -> str:
    """Return the name of a flag's parameter: for an argument that of this verb, which its help shows."""
    return declaration.flag if declaration.argument and declaration.flag else name


def default_shown(declaration: Declaration, usual: Any) -> Any:
    """Return the default as it is typed and shown, None where none is."""
    if declaration.kind in (bool, int, float) and usual is not None:
        return usual
    if usual is None and not declaration.none_shown:
        return None
    return declaration.text(usual) or None


def place_in_help(parameter: inspect.Parameter) -> int:
    """Return where a parameter stands in the help of its verb: arguments first, then by panel."""
    _, *taken = get_args(parameter.annotation)
    panel = next((one.rich_help_panel for one in taken if isinstance(one, OptionInfo)), None)
    return 1 + PANELS.index(panel) if panel in PANELS else 0


def config_parameter(known: Mapping[str, Declaration]) -> inspect.Parameter:
    """Return the parameter of --config, read before any other; `known` are the declared options of the verb."""
    taken = typer.Option(
        help="A TOML or YAML file of these options, by their long names; those on the command line have the say.",
        metavar="FILE",
        show_default=False,
        rich_help_panel="output",
        is_eager=True,
        callback=config_reader(known),
    )
    kind = Annotated[Path | None, taken]
    return inspect.Parameter("config", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=kind)


def argument(declaration: Declaration) -> Any:
    """Return what typer takes for an argument."""
    return typer.Argument(help=declaration.help, metavar=declaration.metavar, show_default=False)


def flag_names(flag: str, off: str | None = None) -> list[str]:
    """Return all names of a flag as typer takes them, with the one that switches it off."""
    first, *others = names_of(flag)
    return ["/".join(filter(None, (first, off))), *others]


def all_names(name: str, annotation: Any) -> Any:
    """Return the annotation of a flag that a verb has for itself, under all the names that others have it under.

    Where the verb does not say what it is about, it is about the output.
    """
    if get_origin(annotation) is not Annotated:
        return annotation
    kind, *rest = get_args(annotation)
    for place, one in enumerate(rest):
        # typer holds a name that was given in the place of the default.
        if isinstance(one, OptionInfo):
            rest[place] = copy.copy(one)
            rest[place].rich_help_panel = one.rich_help_panel or "output"
            if not one.param_decls and not isinstance(one.default, str):
                rest[place].param_decls = flag_names(flag_of(name, Declaration("")))
    whole = (kind, *rest)
    return Annotated[whole]


def typer_option(name: str, declaration: Declaration, shown: bool, panel: Panel | None) -> Any:
    """Return what typer takes for an option."""
    return typer.Option(
        *flag_names(flag_of(name, declaration), declaration.off),
        help=declaration.help,
        metavar=declaration.metavar,
        show_default=shown,
        min=declaration.least,
        rich_help_panel=panel,
        autocompletion=completer(declaration),
    )
