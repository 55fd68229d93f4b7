"""Finds the writers of a model: every tensor whose output is added to the residual stream.

They are found on a shrunken clone, by following the stream back through one forward pass (`trace`), and carried
over to the model by name: a parameter of the model has the role of the clone's parameter that is called the same,
layer number apart. What the clone does not know, and what the trace cannot follow exactly, is refused, never skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.kinds import Kind, empty_twin, traced_clone
from abliterate.architectures.parameter_roles import layer_place, parameter_roles_of
from abliterate.architectures.sites import Site
from abliterate.architectures.trace import Gain, Trace
from abliterate.architectures.tying import shares_matrix
from abliterate.architectures.wrappers import inside, name_of, parameter_names, unwrapped
from abliterate.errors import ArchitectureError
from abliterate.projection import Amount, Mixing, fold_gain, orthonormal_span, span_edit

Fact = TypeVar("Fact")

MIXER_PATHS = ("attn", "attention", "self_att", "mamba", "conv")
MLP_PATHS = ("mlp", "ffn", "feed_forward", "feedforward", "moe", "expert", "fc2", "fc_out", "down", "per_layer")
"""A writer is a token mixer when its path inside its layer holds one of the first, else an MLP with one of the second;
any other is a token mixer too."""


@dataclass(frozen=True)
class Parameter:
    """A parameter in memory, its residual axis there, and its axis in each tensor that stores it on disk.

    `stored_axis` is None when the clone cannot be saved without parts of other parameters.
    """

    name: str
    axis: int
    stored_axis: int | None


@dataclass(frozen=True)
class Writer:
    """A module that writes to the residual stream, and what it writes with.

    `paths` are the ways from its output to the stream, each with the gains on it, the one nearest the stream
    first: most models have one way and no gain, sandwich norms one way and one gain. `constant` marks a bias
    that is all that its module writes. What it writes can be taken from the output (or the input) of `hook`.
    """

    module: str
    site: Site
    layer: int | None
    parameters: tuple[Parameter, ...]
    paths: tuple[tuple[Gain, ...], ...] = ((),)
    constant: bool = False
    hook: str = ""
    hook_input: bool = False

    @property
    def plain(self) -> bool:
        """Whether nothing but scales for all channels stands between this writer and the stream."""
        return self.paths == ((),)

    def basis(self, basis: Float[Tensor, "k d_model"], read: Callable[[str], Tensor]) -> Float[Tensor, "more d_model"]:
        """Return what to remove from the output so that `basis` is gone from the stream; `read` gives a parameter.

        One row of `basis` and one path give one row; a row that the gains send to zero stays zero.
        """
        if self.plain:
            return basis
        return orthonormal_span(self.folded(basis, read))

    def removal(
        self, basis: Float[Tensor, "k d_model"], strength: float | tuple[float, ...], read: Callable[[str], Tensor]
    ) -> tuple[Float[Tensor, "more d_model"], Amount]:
        """Return what to remove from the output and how strongly, for one strength or for that of each row of `basis`."""
        if not isinstance(strength, tuple):
            return self.basis(basis, read), strength
        rows, mixing = self.edit(basis, torch.tensor(strength, dtype=torch.float64), read)
        return rows, Mixing.of(mixing)

    def edit(
        self, basis: Float[Tensor, "k d_model"], strengths: Float[Tensor, " k"], read: Callable[[str], Tensor]
    ) -> tuple[Float[Tensor, "more d_model"], Float[Tensor, "more more"]]:
        """Return what to remove, as `basis` does, and how its components mix where each row of `basis` has its own strength.

        The gains turn orthonormal rows into ones that are not: what is removed is then no sum over them, see
        `projection.span_edit`, whose InputError this raises too.
        """
        if self.plain:
            return basis, strengths.diag()
        return span_edit(self.folded(basis, read), strengths.repeat(len(self.paths)))

    def folded(self, basis: Float[Tensor, "k d_model"], read: Callable[[str], Tensor]) -> Float[Tensor, "more d_model"]:
        """Return what lies along `basis` in the stream as seen before the gains: `k` rows for each path, in float64."""
        rows = []
        for path in self.paths:
            folded = basis.cpu().double()  # Apple's GPUs have none
            for gain in path:
                value = gain.value(read(gain.parameter)) if gain.parameter else None
                folded = fold_gain(folded, value, gain.centred)
            rows.append(folded)
        return torch.cat(rows)


@dataclass(frozen=True)
class Architecture:
    """Where a model keeps its residual stream. Module names are those in memory.

    `problems` say where the stream cannot be followed exactly; such a model is refused unless the user allows it.
    `outside` are modules beside the text decoder, such as a vision tower and its projector: they are left alone, and
    what they put into the stream in the place of tokens is not edited.

    Examples:
        >>> architecture = find_architecture(model)
        >>> architecture.depth, architecture.d_model, architecture.layers[0]
        (8, 160, 'model.layers.0')
        >>> sorted(one.module for one in architecture.writers if one.layer == 3)
        ['model.layers.3.mlp.down_proj', 'model.layers.3.self_attn.o_proj']
    """

    model_type: str
    d_model: int
    layers: tuple[str, ...]
    writers: tuple[Writer, ...]
    head: str | None
    tied: bool
    problems: tuple[str, ...] = ()
    outside: tuple[str, ...] = ()
    _facts: dict[str, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, name: str, derive: Callable[[], Fact]) -> Fact:
        """Return a fact that follows from this architecture: derived the first time it is asked for, and kept under `name`.

        Copies with other writers begin with none. What `derive` raises is not kept.
        """
        if name not in self._facts:
            self._facts[name] = derive()
        fact: Fact = self._facts[name]
        return fact

    @property
    def depth(self) -> int:
        """Return L, the number of decoder layers."""
        return len(self.layers)


def text_config(model: PreTrainedModel) -> Any:
    """Return the config of the text decoder, which is the model's own unless it is multimodal."""
    return model.config.get_text_config(decoder=True)


def find_architecture(model: nn.Module, allow_unproved: bool = False) -> Architecture:
    """Return the layers and writers of `model`, which may be live or on the meta device; it is not run.

    What others put around a model or its modules is seen through (`wrappers.unwrapped`). A writer that was replaced, as
    quantisation does, is one all the same: its output can be changed, even where its weights cannot be read.
    Raises ArchitectureError when no small clone of it can be built and run, when the clone lacks a parameter that
    the model has, when the model lacks a writer that its config promises, and, unless `allow_unproved`, when the stream
    passes something that no edit can undo exactly. Raises InputError for what is no transformers model.

    Examples:
        >>> sorted({writer.site for writer in find_architecture(model).writers})
        ['attn', 'embed', 'mlp']
    """
    live = unwrapped(model)
    kind = Kind.of(live)
    clone, found = traced_clone(kind)
    if found.problems and not allow_unproved:
        raise ArchitectureError(f"{live.config.model_type}: {found.problems[0]}")
    head, embedding = head_of(live), name_of(live, live.get_input_embeddings())
    twin = live if all(one.is_meta for one in live.parameters()) else empty_twin(kind)
    names = [name for name in expected_names(live, twin, found.layers) if name != f"{head}.weight"]
    promised = list(writers_of(clone, found, sorted(names, key=natural)))
    for writer in promised:
        check_present(live, writer)
    writers = tuple(shared_once(live, promised))
    first = writers[0].parameters[0]
    return Architecture(
        model_type=text_config(live).model_type,
        d_model=twin.get_parameter(f"{writers[0].module}.{first.name}").shape[first.axis],
        layers=tuple(f"{found.layers}.{layer}" for layer in range(len(live.get_submodule(found.layers)))),
        writers=writers,
        head=head,
        tied=shares_matrix(live) and any(writer.module == embedding for writer in writers),
        problems=found.problems,
        outside=modules_outside(names, found.layers),
    )


def modules_outside(names: Sequence[str], layers: str) -> tuple[str, ...]:
    """Return the modules that hold parameters beside the text decoder, which is what `layers` is in."""
    decoder = layers.rpartition(".")[0]
    family = decoder.rpartition(".")[0]
    others = [name.removeprefix(f"{family}.") for name in names if not name.startswith(f"{decoder}.")]
    return tuple(sorted({one.partition(".")[0] for one in others if one.count(".") > 1}))


def expected_names(model: PreTrainedModel, twin: PreTrainedModel, layers: str) -> list[str]:
    """Return the names of the parameters of a model, and of those whose modules were replaced by others without them.

    Not those of layers that were taken out, nor of a bias that its module does without.
    """
    own = list(parameter_names(model))
    there = set(own)
    depth = len(model.get_submodule(layers))
    for name in parameter_names(twin):
        number, _ = layer_place(name, layers)
        if name not in there and (number is None or number < depth) and not done_without(model, name):
            own.append(name)
    return own


def done_without(model: nn.Module, name: str) -> bool:
    """Tell whether the module that would hold a parameter is there and says that it has none."""
    module, _, last = name.rpartition(".")
    try:
        around = inside(module, model.get_submodule(module))
    except AttributeError:
        return False
    return any(last in one._parameters and one._parameters[last] is None for _, one in around)


def check_present(model: PreTrainedModel, writer: Writer) -> None:
    """Raise ArchitectureError when a writer is not where it should be."""
    for name in {writer.module, writer.hook}:
        try:
            model.get_submodule(name)
        except AttributeError as error:
            raise ArchitectureError(
                f"{name}: {type(model).__name__} writes to the residual stream there, and this model has nothing of that name: "
                "it was replaced; give the model as from_pretrained loads it"
            ) from error


def head_of(model: PreTrainedModel) -> str | None:
    """Return the name of the output embedding."""
    head = model.get_output_embeddings()
    return name_of(model, head) if head is not None else None


def natural(name: str) -> list[tuple[int, str]]:
    """Return a sort key that puts layer 2 before layer 10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in name.split(".")]


def writers_of(clone: PreTrainedModel, found: Trace, names: Sequence[str]) -> Iterator[Writer]:
    """Yield the writers among the parameters `names` of a model: those whose like in the clone was found to write."""
    roles = parameter_roles_of(clone, found, names)
    called = {layer_place(f"{name}.", found.layers)[1] for name in found.called}
    modules: dict[str, list[str]] = {}
    for name in roles:
        modules.setdefault(name.rpartition(".")[0], []).append(name)
    for module, members in modules.items():
        number, _ = layer_place(f"{module}.", found.layers)
        parameters = []
        for name in members:
            one = next(iter(roles[name]))
            parameters.append(Parameter(name.rpartition(".")[2], one.axis, one.stored_axis))
        paths = tuple(sorted({role.gains for name in members for role in roles[name]}, key=str))
        constant = all(role.vector for name in members for role in roles[name])
        hook = hook_of(module, paths, lambda name: layer_place(f"{name}.", found.layers)[1] in called)
        yield Writer(module, site_of(module, found.layers, number), number, tuple(parameters), paths, constant, *hook)


def shared_once(model: PreTrainedModel, writers: Iterable[Writer]) -> Iterable[Writer]:
    """Return the writers of a model, a module that several layers share as one: of its first layer, with all its ways."""
    once: dict[nn.Module, Writer] = {}
    for writer in writers:
        first = once.setdefault(model.get_submodule(writer.module), writer)
        once[model.get_submodule(writer.module)] = replace(
            first, paths=tuple(sorted({*first.paths, *writer.paths}, key=str))
        )
    return once.values()


def hook_of(module: str, paths: tuple[tuple[Gain, ...], ...], called: Callable[[str], bool]) -> tuple[str, bool]:
    """Return where the output of a writer can be taken in a forward pass: a module, and whether it is its input.

    That is the output of the writer's own module, unless the module norms what it writes itself, or holds a
    parameter that its parent uses.
    """
    inner = paths[0][-1].parameter if paths[0] else None
    if inner and inner.startswith(f"{module}."):
        return inner.rpartition(".")[0], True
    while not called(module) and "." in module:
        module = module.rpartition(".")[0]
    return module, False


def site_of(module: str, layers: str, layer: int | None) -> Site:
    """Return the site of a writer by its path inside its layer."""
    if layer is None:
        return "embed"
    inside = module.removeprefix(f"{layers}.{layer}.").lower()
    if any(part in inside for part in MIXER_PATHS):
        return "attn"
    return "mlp" if any(part in inside for part in MLP_PATHS) else "attn"
