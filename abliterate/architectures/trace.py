"""Follows the residual stream back through one forward pass, to every tensor that writes to it.

Autograd has recorded what was computed from what. From `resid[l]` the walk goes back through operations that are
linear in the stream (sums, scales, reshapes, routing, norms) and ends at the matrix products, embeddings
and biases that wrote it. No name of a module takes part: what the code calls things does not matter.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor
from transformers import PreTrainedModel

from abliterate.architectures.recording import Node, record, recorded_layers
from abliterate.errors import ArchitectureError


@dataclass(frozen=True)
class Gain:
    """A norm or a scale per channel that the stream passed: it multiplies by `offset + parameter`, after centring.

    `tap` chooses one step in time of a convolution that acts on each channel by itself, weight `[d_model, 1, taps]`.
    """

    parameter: str | None
    offset: float = 0.0
    centred: bool = False
    tap: int | None = None

    def value(self, parameter: Tensor) -> Tensor:
        """Return what each channel is multiplied by, in float32: a vector `[d_model]`."""
        own = parameter.detach().float().cpu()
        return self.offset + (own if self.tap is None else own[..., self.tap]).flatten()


@dataclass(frozen=True)
class TraceFinding:
    """A parameter that writes to the stream along `axis`, with the gains between, the one nearest the stream first."""

    parameter: str
    axis: int
    gains: tuple[Gain, ...]
    shape: tuple[int, ...]


THROUGH = frozenset(
    f"{name}Backward{number}"
    for number in (0, 1)
    for name in (
        *("Add", "Sub", "Neg", "View", "UnsafeView", "ReshapeAlias", "Alias", "Transpose", "Permute", "T", "Expand"),
        *("Clone", "ToCopy", "Slice", "Select", "Index", "IndexSelect", "IndexAdd", "IndexPut", "Gather", "Scatter"),
        *("ScatterAdd", "Cat", "Stack", "Split", "SplitWithSizes", "Unbind", "Squeeze", "Unsqueeze", "Sum", "Mean"),
        *("Where", "MaskedFill", "Repeat", "RepeatInterleave", "Unfold", "CopySlices", "Copy", "Flatten", "Unflatten"),
        *("ConstantPadNd", "Roll", "Flip", "Chunk", "MaskedScatter", "AsStrided", "Cumsum", "Rsub", "AddcMul"),
    )
) | {"CopySlices"}
"""Operations that are linear in the stream and keep its channels apart: the walk goes on to what they were given."""

RESHAPES = frozenset(
    f"{name}Backward{number}"
    for number in (0, 1)
    for name in (
        *("View", "UnsafeView", "ReshapeAlias", "Alias", "Transpose", "Permute", "T", "NumpyT", "Expand", "Clone"),
        *("ToCopy", "Slice", "Select", "Index", "IndexSelect", "Split", "SplitWithSizes", "Unbind", "Squeeze"),
        "Unsqueeze",
    )
)
"""Operations that leave a weight a weight on its way from the parameter to the product."""

TURNING = frozenset({"TBackward0", "TransposeBackward0", "NumpyTBackward0", "PermuteBackward0"})
"""Those among them that exchange the last two axes of a weight."""

PRODUCTS = {"MmBackward0": (0, 1), "BmmBackward0": (0, 1), "AddmmBackward0": (1, 2), "BaddbmmBackward0": (1, 2)}
"""Matrix products, and where their two factors stand among the inputs; what is added stands before them."""


@dataclass
class Walk:
    """One walk back from the stream; what it found, and where it could not go on."""

    d_model: int
    names: dict[Tensor, str]
    streams: set[Node]
    modules: dict[Node, str]
    widths: frozenset[int]
    found: dict[str, set[tuple[int, tuple[Gain, ...]]]] = field(default_factory=dict)
    seen: set[tuple[Node, tuple[Gain, ...]]] = field(default_factory=set)
    waiting: list[tuple[Node, tuple[Gain, ...], str]] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    def start(self, node: Node, where: str) -> None:
        """Walk back from one point of the stream to the points before it, or to the end."""
        self.enter(node, (), where, first=True)
        while self.waiting:
            node, gains, place = self.waiting.pop()
            try:
                self.step(node, gains, place)
            except ArchitectureError as error:
                self.problems.append(str(error))

    def enter(self, node: Node | None, gains: tuple[Gain, ...], where: str, first: bool = False) -> None:
        """Put a node on the list, unless it carries no stream or was seen."""
        if node is None or (node, gains) in self.seen or not self.wide(node):
            return
        if node in self.streams and not first:
            if gains:
                self.problems.append(
                    f"{where}: a gain per channel stands over the stream itself, not only over what is written to it, "
                    "so that no edit of the writers silences it at every layer"
                )
            return
        self.seen.add((node, gains))
        self.waiting.append((node, gains, self.modules.get(node, where)))

    def step(self, node: Node, gains: tuple[Gain, ...], where: str) -> None:
        """Take one step back."""
        kind, inputs = node.name().rpartition("::")[2], [before for before, _ in node.next_functions]
        if hasattr(node, "variable"):
            self.find(node, -1, gains, where)
        elif kind == "EmbeddingBackward0":
            self.weight(inputs[0], -1, gains, where)
        elif kind in PRODUCTS:
            self.product(node, kind, inputs, gains, where)
        elif kind in ("MulBackward0", "DivBackward0"):
            self.multiply(node, inputs, gains, where)
        elif kind in ("NativeLayerNormBackward0", "FusedRmsNormBackward0"):
            self.norm(kind, inputs, gains, where)
        elif kind == "ConvolutionBackward0":
            self.convolution(node, inputs, gains, where)
        elif kind in THROUGH:
            centred = kind == "SubBackward0" and len(inputs) > 1 and inputs[1] is not None and self.is_mean(inputs[1])
            for before in inputs:
                self.enter(before, (*gains, Gain(None, centred=True)) if centred else gains, where)
        else:
            raise blocked(where, f"{kind.removesuffix('0').removesuffix('Backward')} acts on what is written")

    def wide(self, node: Node) -> bool:
        """Tell whether what a node computed has the residual width along some axis."""
        if hasattr(node, "variable"):
            return not self.widths.isdisjoint(node.variable.shape)
        return any(not self.widths.isdisjoint(one.shape) for one in node._input_metadata)

    def is_mean(self, node: Node) -> bool:
        """Tell whether a node is a mean over the channels."""
        return bool(node.name().startswith("MeanBackward") and node._input_metadata[0].shape[-1] == 1)

    def product(self, node: Node, kind: str, inputs: list[Node], gains: tuple[Gain, ...], where: str) -> None:
        """A matrix product ends the walk where one factor is a weight; where both are data, it mixes tokens or streams."""
        left, right = (inputs[place] for place in PRODUCTS[kind])
        for extra in inputs[: PRODUCTS[kind][0]]:
            self.enter(extra, gains, where)
        shape = tuple(node._input_metadata[0].shape)
        factor, axis = (right, -1) if shape[-1] == self.d_model else (left, -2)
        if factor is None:
            raise blocked(where, "a matrix that is no parameter writes")
        if self.weight(factor, axis, gains, where, optional=True):
            return
        self.enter(factor, gains, where)

    def weight(self, node: Node, axis: int, gains: tuple[Gain, ...], where: str, optional: bool = False) -> bool:
        """Follow a factor to the parameter that it is a view of; tell whether there is one."""
        while not hasattr(node, "variable"):
            kind = node.name()
            if kind not in RESHAPES:
                if optional:
                    return False
                raise blocked(where, f"a weight that {kind} made writes")
            if kind in TURNING:
                axis = {-1: -2, -2: -1}[axis]
            node = next(before for before, _ in node.next_functions if before is not None)
        self.find(node, axis, gains, where)
        return True

    def find(self, node: Node, axis: int, gains: tuple[Gain, ...], where: str) -> None:
        """Note a parameter; where just one of its axes has the residual width, that is the one."""
        shape = tuple(node.variable.shape)
        places = [place - len(shape) for place, length in enumerate(shape) if length == self.d_model]
        name = self.names.get(node.variable)
        if name is None or not places:
            raise blocked(where, "a fixed table that is not among the weights writes")
        self.found.setdefault(name, set()).add((places[0] if len(places) == 1 else axis, gains))

    def multiply(self, node: Node, inputs: list[Node], gains: tuple[Gain, ...], where: str) -> None:
        """A scale for all channels changes nothing; one per channel is a gain; a product of two streams is neither."""
        wide = [before for before in inputs if before is not None and self.wide(before)]
        vectors = [before for before in wide if self.vector(before)]
        others = [before for before in wide if before not in vectors]
        if len(others) == 1 and len(vectors) == 1 and node.name() == "MulBackward0":
            self.enter(others[0], (*gains, self.gain(node, vectors[0], where)), where)
        elif len(wide) == 1 and not self.varies(node):
            self.enter(wide[0], gains, where)
        else:
            raise blocked(where, "what is written is multiplied channel by channel by what the tokens decide")

    def varies(self, node: Node) -> bool:
        """Tell whether a product has a factor that is no parameter and differs among the channels."""
        saved = (getattr(node, "_saved_self", None), getattr(node, "_saved_other", None))
        fixed = [
            one for one in saved if isinstance(one, Tensor) and not one.requires_grad and self.d_model in one.shape
        ]
        return any(one.numel() > 1 and bool((one != one.flatten()[0]).any()) for one in fixed)

    def vector(self, node: Node) -> bool:
        """Tell whether a node computed one number per channel, the same for all tokens."""
        shape = tuple(node.variable.shape) if hasattr(node, "variable") else tuple(node._input_metadata[0].shape)
        return all(length in (1, self.d_model) for length in shape) and shape.count(self.d_model) == 1

    def gain(self, node: Node, vector: Node, where: str) -> Gain:
        """Return the gain that a vector is: a parameter, or a parameter and an offset."""
        place = [before for before, _ in node.next_functions].index(vector)
        value = (node._saved_self, node._saved_other)[place].detach().flatten()
        leaf = vector
        while not hasattr(leaf, "variable"):
            if leaf.name() not in RESHAPES | {"AddBackward0", "RsubBackward1"}:
                raise blocked(where, f"a gain that {leaf.name()} made stands behind a writer")
            leaf = next(before for before, _ in leaf.next_functions if before is not None)
        offset = value - leaf.variable.detach().flatten()
        if leaf.variable not in self.names or float((offset - offset.mean()).abs().max()) > 1e-5:
            raise blocked(where, "a gain that is no parameter and offset stands behind a writer")
        return Gain(self.names[leaf.variable], round(float(offset.mean()), 4))

    def norm(self, kind: str, inputs: list[Node], gains: tuple[Gain, ...], where: str) -> None:
        """A norm is a gain behind a scale per token; a LayerNorm centres first, and its bias writes by itself."""
        centred = kind == "NativeLayerNormBackward0"
        weight = inputs[1] if len(inputs) > 1 else None
        if weight is None or not hasattr(weight, "variable"):
            raise blocked(where, "a norm without a weight vector stands behind a writer")
        if len(inputs) > 2:
            self.enter(inputs[2], gains, where)
        self.enter(inputs[0], (*gains, Gain(self.names[weight.variable], centred=centred)), where)

    def convolution(self, node: Node, inputs: list[Node], gains: tuple[Gain, ...], where: str) -> None:
        """A convolution writes by its output channels; one on each channel by itself is a gain for each step in time."""
        kernel = leaf(inputs[1])
        if kernel is None or node._saved_groups not in (1, self.d_model):
            raise blocked(where, "a convolution in groups of channels acts on what is written")
        if len(inputs) > 2:
            self.enter(inputs[2], gains, where)
        if node._saved_groups == 1:
            self.find(kernel, -3, gains, where)
            return
        for tap in range(kernel.variable.shape[-1]):
            self.enter(inputs[0], (*gains, Gain(self.names[kernel.variable], tap=tap)), where)


def leaf(node: Node | None) -> Node | None:
    """Return the parameter that a node is a view of, or None."""
    while node is not None and not hasattr(node, "variable"):
        if node.name() not in RESHAPES:
            return None
        node = next((before for before, _ in node.next_functions if before is not None), None)
    return node


def blocked(where: str, why: str) -> ArchitectureError:
    """Return the error for a place where the stream cannot be followed exactly."""
    return ArchitectureError(f"{where}: {why}, so that no edit of the weights is exact")


@dataclass(frozen=True)
class Trace:
    """What one forward pass showed: the list of decoder layers, and every parameter that writes between them."""

    layers: str
    depth: int
    findings: tuple[TraceFinding, ...]
    aliases: dict[str, tuple[str, ...]]
    called: frozenset[str]
    problems: tuple[str, ...]


def trace(model: PreTrainedModel, d_model: int, inputs: Mapping[str, Tensor]) -> Trace:
    """Run `model` once on `inputs` and return its decoder layers and every parameter that writes between them.

    `d_model` must be no other size in the model or the batch; a stream of several lanes is a multiple of it. Where
    the stream passes something that no edit of weights can undo exactly, `problems` name the module. Raises
    ArchitectureError when the model does not run, or has no list of decoder layers that each run once.
    """
    parameters = {parameter: name for name, parameter in model.named_parameters()}
    aliases: dict[str, tuple[str, ...]] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        aliases[parameters[parameter]] = (*aliases.get(parameters[parameter], ()), name)
    for tensor in (*parameters, *(one for one in model.buffers() if one.dim() > 1 and one.is_floating_point())):
        tensor.requires_grad_(True)
    recording = record(model, inputs)
    name = recorded_layers(model, recording, d_model)
    depth = len(model.get_submodule(name))
    points = [(recording.inputs[f"{name}.{layer}"], f"{name}.{layer}") for layer in range(depth)]
    points.append((recording.outputs[f"{name}.{depth - 1}"], f"{name}.{depth - 1}"))
    widths = frozenset({d_model, points[0][0].shape[-1]})
    walk = Walk(d_model, parameters, {tensor.grad_fn for tensor, _ in points}, recording.modules, widths)
    for tensor, where in points:
        walk.start(tensor.grad_fn, where)
    findings = [
        TraceFinding(one, axis, gains, tuple(model.get_parameter(one).shape))
        for one, places in walk.found.items()
        for axis, gains in sorted(places, key=str)
    ]
    return Trace(name, depth, tuple(findings), aliases, frozenset(recording.calls), tuple(dict.fromkeys(walk.problems)))
