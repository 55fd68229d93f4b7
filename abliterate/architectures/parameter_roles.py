"""Carries what was found on a small clone over to the model itself, by the names of parameters.

A parameter of the model does what the clone's parameter does that is called the same, in a layer of the same kind;
the numbers of layers and experts apart. What the clone does not have is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from transformers import PreTrainedModel
from transformers.core_model_loading import revert_weight_conversion

from abliterate.architectures.clone import D_MODEL
from abliterate.architectures.trace import Gain, Trace, TraceFinding
from abliterate.errors import ArchitectureError

RoleKind = frozenset[str]
"""A kind of layer: the names that its parameters have in it."""

ANY = "*"
"""Stands for the number of a layer in the name of a gain."""


@dataclass(frozen=True)
class ParameterRole:
    """What a parameter writes: along which axis in memory and on disk, through which gains; `vector` is a bias."""

    axis: int
    stored_axis: int | None
    gains: tuple[Gain, ...]
    vector: bool


def layer_place(name: str, layers: str) -> tuple[int | None, str]:
    """Return the number of a parameter's layer, and its name in there with `#` for the numbers of experts and the like."""
    inside = re.match(rf"^{re.escape(layers)}\.(\d+)\.(.*)", name)
    number, rest = (int(inside[1]), inside[2]) if inside else (None, name)
    return number, re.sub(r"(?<=\.)\d+(?=\.\w+\.)", "#", rest)


def layer_kinds(names: Iterable[str], layers: str) -> dict[int | None, RoleKind]:
    """Return the kind of each layer, and under None what lies outside the layers."""
    kinds: dict[int | None, set[str]] = {}
    for name in names:
        number, inside = layer_place(name, layers)
        kinds.setdefault(number, set()).add(inside)
    return {number: frozenset(inside) for number, inside in kinds.items()}


def in_layer(gains: tuple[Gain, ...], layers: str, layer: int | str | None) -> tuple[Gain, ...]:
    """Return gains with the names that they have in another layer."""
    if layer is None:
        return gains
    numbered = re.compile(rf"^{re.escape(layers)}\.(\d+|\*)\.")
    return tuple(
        replace(gain, parameter=numbered.sub(f"{layers}.{layer}.", gain.parameter)) if gain.parameter else gain
        for gain in gains
    )


def parameter_roles_of(
    clone: PreTrainedModel, found: Trace, names: Sequence[str]
) -> dict[str, frozenset[ParameterRole]]:
    """Return the roles of those among the parameters `names` of a model that write to its stream.

    Raises ArchitectureError for a layer that holds what no layer of the clone holds, or combines its parts in a
    new way in which their roles are not certain.
    """
    cloned = layer_kinds((name for name, _ in clone.named_parameters(remove_duplicate=False)), found.layers)
    known: dict[RoleKind, dict[str, set[ParameterRole]]] = {kind: {} for kind in cloned.values()}
    for finding in found.findings:
        role = ParameterRole(
            finding.axis,
            role_axis(clone, finding),
            in_layer(finding.gains, found.layers, ANY),
            len(finding.shape) == 1,
        )
        for name in found.aliases[finding.parameter]:
            number, inside = layer_place(name, found.layers)
            known[cloned[number]].setdefault(inside, set()).add(role)
    kinds = layer_kinds(names, found.layers)
    roles: dict[str, frozenset[ParameterRole]] = {}
    for name in names:
        number, inside = layer_place(name, found.layers)
        kind = cloned[None] if number is None else kinds[number]
        own = frozenset(known[kind].get(inside, ())) if kind in known else elsewhere(known, name, inside)
        if own:
            roles[name] = frozenset(replace(role, gains=in_layer(role.gains, found.layers, number)) for role in own)
    return roles


def elsewhere(
    known: Mapping[RoleKind, Mapping[str, set[ParameterRole]]], name: str, inside: str
) -> frozenset[ParameterRole]:
    """Return the role that a part has in layers of every kind that is known, for a layer of another kind."""
    all_roles = {frozenset(roles.get(inside, ())) for kind, roles in known.items() if inside in kind}
    if len(all_roles) != 1:
        problem = "has other roles in other layers" if all_roles else "is not in it"
        raise ArchitectureError(
            f"{name}: its small clone has no layer like this one, and {inside} {problem}; "
            "this configuration is not supported yet"
        )
    return all_roles.pop()


def role_axis(clone: PreTrainedModel, finding: TraceFinding) -> int | None:
    """Return the residual axis of the tensors on disk that store a parameter, by transformers' own conversion mapping.

    None where the mapping stores it together with tensors that do not write.
    """
    parameter = clone.get_parameter(finding.parameter).detach()
    stored = revert_weight_conversion(clone, {finding.parameter: parameter})
    if [one.shape == parameter.shape and torch.equal(one, parameter) for one in stored.values()] == [True]:
        return finding.axis
    places = {one.shape.index(D_MODEL) - one.dim() for one in stored.values() if tuple(one.shape).count(D_MODEL) == 1}
    return places.pop() if len(places) == 1 else None
