"""The recipe: what to do, apart from any checkpoint: which directions, how strongly at which site and layer."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from abliterate.architectures.edit_forms import EDIT_FORMS, EditForm
from abliterate.architectures.sites import SITES, Site
from abliterate.errors import InputError, first_line
from abliterate.storage.foreign_files import read_json

MAX_STRENGTH = 1e6
"""Beyond it no weight of half precision stays finite; 1 removes the component, and some tens already end all sense."""


Strengths = Mapping[Site, float | tuple[float, ...]]
"""Strengths per site, one for all layers or one a layer."""


@dataclass(frozen=True)
class Recipe:
    """Strengths per site, one for all layers or one a layer; a site that is not named is left alone.

    `direction` names the tensor in `directions.safetensors` that is used, such as `resid.15`; several names give a basis, whose
    rows are made orthonormal in that order. `strengths` are those of all of them: their span is removed, and the order does
    not matter; or they are a tuple with the strengths of each. A recipe with `added` removes nothing: it adds the unit
    direction that many times to the `resid[l]` that it is named after, at every token. `form` is that of the edit of a weight.

    Examples:
        >>> Recipe.uniform(0.5, ["attn", "mlp"]).strengths
        {'attn': 0.5, 'mlp': 0.5}
        >>> late = Recipe({"mlp": (0.0,) * 4 + (1.0,) * 4})  # the last four of eight layers
        >>> with ablated(model, directions[4], late) as live:
        ...     text = reply(live, harmful.prompts[0])
        >>> two = Recipe(({"mlp": 1.0}, {"mlp": 0.5}), ("resid.4", "resid.6"))  # each with its own strengths
        >>> two.strength("mlp", 3)
        (1.0, 0.5)
    """

    strengths: Strengths | tuple[Strengths, ...]
    direction: str | tuple[str, ...] | None = None
    added: float | None = None
    form: EditForm = "projection"

    @classmethod
    def uniform(
        cls, strength: float = 1.0, sites: Sequence[Site] = SITES, direction: str | tuple[str, ...] | None = None
    ) -> Recipe:
        """Return the recipe with the same strength at every layer of `sites`.

        Raises InputError for an unknown site and a strength that is not finite.
        """
        for site in sites:
            if site not in SITES:
                raise InputError(f"--sites {site}: unknown; choose among {', '.join(SITES)}")
        if not sites:
            raise InputError(f"--sites is empty; choose among {', '.join(SITES)}")
        if not math.isfinite(strength):
            raise InputError(f"--strength {strength}: must be a finite number; 1 removes the component, 0 leaves it")
        return cls({site: float(strength) for site in sites}, direction)

    @classmethod
    def adding(cls, length: float, layer: int) -> Recipe:
        """Return the recipe that adds a vector of this length, in the units of the stream, along `resid.{layer}`.

        Raises InputError for a length that is 0 or not finite.
        """
        if not length or not math.isfinite(length):
            raise InputError(f"the vector to add has length {length}; --strength must be a finite number, and not 0")
        return cls({}, f"resid.{layer}", float(length))

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the directions, none where the recipe names none."""
        if self.direction is None:
            return ()
        return (self.direction,) if isinstance(self.direction, str) else self.direction

    @property
    def layer(self) -> int | None:
        """Return the layer that the direction is named after, None for one that is not of a layer, and for several.

        Vectors of a study are named after form and place too, as `open/1/resid.15`.
        """
        named = self.direction if isinstance(self.direction, str) else ""
        found = re.fullmatch(r"(?:.+/)?resid\.([0-9]{1,9})", named)
        return int(found[1]) if found else None

    @property
    def each(self) -> tuple[Strengths, ...]:
        """Return the strengths of each direction, or the one that all share."""
        return self.strengths if isinstance(self.strengths, tuple) else (self.strengths,)

    @property
    def addition(self) -> tuple[int, float] | None:
        """Return the layer that something is added to and how long that is, None for a recipe that removes.

        Raises InputError where it does not say at which layer.
        """
        if self.added is None:
            return None
        if self.layer is None:
            raise InputError("this recipe adds a direction, and does not say at which layer")
        return self.layer, self.added

    def times(self, factor: float) -> Recipe:
        """Return the recipe with every strength, or the length that it adds, `factor` times as large.

        Raises InputError for a factor with which they are not finite.
        """
        each = [{site: scaled(value, factor) for site, value in own.items()} for own in self.each]
        added = None if self.added is None else self.added * factor
        numbers = [
            one for own in each for value in own.values() for one in ([value] if isinstance(value, float) else value)
        ]
        if not all(map(is_strength, [*numbers, added or 0.0])):
            raise InputError(f"strength {factor}: must be a finite number, with strengths of at most {MAX_STRENGTH:g}")
        return replace(self, strengths=tuple(each) if isinstance(self.strengths, tuple) else each[0], added=added)

    def strength(self, site: Site, layer: int | None) -> float | tuple[float, ...]:
        """Return the strength for a writer: 0 where its site is left alone, a tuple where the directions have different ones."""
        values = [one.get(site, 0.0) for one in self.each]
        own = tuple(value if isinstance(value, float) else value[layer or 0] for value in values)
        return own if len(set(own)) > 1 else own[0]

    def check(self, depth: int, rank: int | None = None) -> None:
        """Raise InputError when a per-layer list is not as long as the model is deep, and where nothing is removed.

        With `rank`, the number of directions, also where each has its own strengths and there are not as many.
        """
        self.require_removal()
        if self.form != "projection" and not self.exact:
            raise InputError(
                f"the form {self.form} of an edit removes all of the direction: strength 1 at every site; leave --strength and --sites away"
            )
        if rank is not None and len(self.each) not in (1, rank):
            raise InputError(
                f"recipe: strengths of {len(self.each)} directions for {rank}; give those of each, or one set"
            )
        for site, value in (item for one in self.each for item in one.items()):
            if not isinstance(value, float) and len(value) != (1 if site == "embed" else depth):
                raise InputError(
                    f"recipe: {site} has {len(value)} strengths for a model of {depth} layers; one a layer"
                )

    def require_removal(self) -> None:
        """Raise InputError for a recipe that adds."""
        if self.added is not None:
            raise InputError("this recipe adds the direction and removes nothing; give one with strengths here")

    def require_projection(self, what: str) -> None:
        """Raise InputError for a recipe whose edit no hook and no product of thin matrices is; `what` would be one."""
        if self.form != "projection":
            raise InputError(
                f"{what} holds projections only, and this edit (form {self.form}) changes lengths too; write a checkpoint instead"
            )

    @property
    def exact(self) -> bool:
        """Whether every site is edited at strength 1, so that the residual stream must be silent."""
        return all(
            set(one) == set(SITES)
            and all(set([value] if isinstance(value, float) else value) == {1.0} for value in one.values())
            for one in self.each
        )

    def to_json(self) -> dict[str, Any]:
        """Return the recipe as `recipe.json` holds it."""
        each = [{site: list(one) if isinstance(one, tuple) else one for site, one in own.items()} for own in self.each]
        strengths = each if isinstance(self.strengths, tuple) else each[0]
        added: dict[str, Any] = {} if self.added is None else {"added": self.added}
        added |= {} if self.form == "projection" else {"form": self.form}
        if isinstance(self.direction, tuple):
            return {"directions": list(self.direction), "strengths": strengths, **added}
        return {"direction": self.direction, "strengths": strengths, **added}

    @classmethod
    def from_json(cls, data: object, source: str) -> Recipe:
        """Read what `to_json` returned. Raises InputError, naming `source`, for anything else."""
        keys = set(data) - {"added", "form"} if isinstance(data, dict) else set()
        if not isinstance(data, dict) or keys not in ({"direction", "strengths"}, {"directions", "strengths"}):
            raise InputError(f"{source}: not a recipe; expected an object with direction and strengths")
        names = data["directions"] if "directions" in data else data["direction"]
        if "directions" in data:
            if not isinstance(names, list) or len(names) < 2 or not all(isinstance(name, str) for name in names):
                raise InputError(f"{source}: not a recipe; its directions should be the names of two or more")
            names = tuple(names)
        elif not isinstance(names, str | None):
            raise InputError(f"{source}: not a recipe; its direction should be the name of one, such as resid.15")
        given = data["strengths"]
        strengths: Strengths | tuple[Strengths, ...]
        if isinstance(given, list) and isinstance(names, tuple) and len(given) == len(names):
            strengths = tuple(read_strengths(own, source) for own in given)
        else:
            strengths = read_strengths(given, source)
        form = data.get("form", "projection")
        if form not in EDIT_FORMS or ("added" in data and "form" in data):
            raise InputError(
                f"{source}: not a recipe; the form of what it removes should be one of {', '.join(EDIT_FORMS)}"
            )
        recipe = cls(strengths, names, form=form)
        if "added" not in data:
            return recipe
        added = data["added"]
        if strengths or recipe.layer is None or not is_strength(added):
            raise InputError(
                f"{source}: a recipe that adds has a finite length in `added`, a direction such as resid.15, and no strengths"
            )
        return cls.adding(float(added), recipe.layer)

    @classmethod
    def load(cls, path: Path) -> Recipe:
        """Read `recipe.json`. Raises InputError when it is missing or not a recipe."""
        try:
            return cls.from_json(read_json(path), str(path))
        except InputError:
            raise
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: the recipe cannot be read ({first_line(error)})") from error


def read_strengths(data: object, source: str) -> Strengths:
    """Read strengths by site. Raises InputError, naming `source`, for anything else."""
    if not isinstance(data, dict):
        raise InputError(
            f"{source}: not a recipe; expected an object with direction and strengths: one set by site, or one for each of "
            "several directions"
        )
    strengths: dict[Site, float | tuple[float, ...]] = {}
    for site, value in data.items():
        numbers = value if isinstance(value, list) else [value]
        if site not in SITES or not numbers or not all(map(is_strength, numbers)):
            raise InputError(
                f"{source}: strengths of {site!r} must be finite numbers, at most {MAX_STRENGTH:g}, for one of {', '.join(SITES)}"
            )
        strengths[site] = tuple(map(float, value)) if isinstance(value, list) else float(value)
    return strengths


def scaled(value: float | tuple[float, ...], factor: float) -> float | tuple[float, ...]:
    """Return a strength, or one for each layer, `factor` times as large."""
    return tuple(one * factor for one in value) if isinstance(value, tuple) else value * factor


def is_strength(value: object) -> bool:
    """Tell whether a value of JSON is a strength, or a length, with which weights stay finite."""
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_STRENGTH <= value <= MAX_STRENGTH
