"""Interventions that take no effect: noticed in the first pass, since silence would be taken for an answer.

A hook is only asked by a module's own call. A forward that was replaced, or traced, may compute what the module would
without calling it (fused kernels, scripted parents): then nothing is changed, and nothing says so. Whatever runs in the first
pass inside a context must have called what it is hooked to.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel

from abliterate.architectures.architecture import Architecture, Writer
from abliterate.errors import ArchitectureError


class Watch:
    """Sees in the first pass which modules are called. Marks that were made go when they have served, or with `hooks`."""

    def __init__(self, hooks: ExitStack) -> None:
        self.hooks = hooks
        self.called: set[nn.Module] = set()
        self.marked: set[nn.Module] = set()

    def mark(self, modules: Iterable[nn.Module]) -> None:
        """Note from now on when these modules are called."""
        for module in modules:
            if module not in self.marked:
                self.marked.add(module)
                handle = module.register_forward_pre_hook(lambda module, args: self.called.add(module))
                self.hooks.callback(handle.remove)

    def when_done(self, module: nn.Module, check: Any) -> None:
        """Call `check` when a pass through `module` ends, for as long as it returns False."""

        def hook(own: nn.Module, args: Any, output: Any) -> None:
            # A shell of the model, which only runs its head, is a copy with the same hooks.
            if own is module and check():
                handle.remove()

        handle = module.register_forward_hook(hook)
        self.hooks.callback(handle.remove)


def bypassed(name: str) -> ArchitectureError:
    """Return the error for a module that a pass went around."""
    return ArchitectureError(
        f"{name}: the model computes without calling it, so that nothing is changed there; "
        "give the model as from_pretrained loads it, without fused or traced parts"
    )


def watch_writers(
    model: PreTrainedModel, architecture: Architecture, writers: Collection[Writer], hooks: ExitStack
) -> None:
    """Raise ArchitectureError, in the first pass, that names the first writer which the model goes around.

    In a layer that runs, a writer must be called if the module that holds it is, and at least one writer must be: a
    layer that the model leaves out, or an expert that no token is sent to, is not called and writes nothing.
    """
    watch = Watch(hooks)
    layers = [writer.layer for writer in writers if writer.layer is not None]
    for layer in sorted(set(layers)):
        own = [writer for writer in writers if writer.layer == layer]
        holders = {writer.hook: model.get_submodule(writer.hook.rpartition(".")[0]) for writer in own}
        modules = {writer.hook: model.get_submodule(writer.hook) for writer in own}
        watch.mark([*holders.values(), *modules.values()])

        def check(
            own: list[Writer] = own, holders: dict[str, nn.Module] = holders, modules: dict[str, nn.Module] = modules
        ) -> bool:
            silent = [writer for writer in own if modules[writer.hook] not in watch.called]
            for writer in silent:
                if holders[writer.hook] in watch.called or len(silent) == len(own):
                    raise bypassed(writer.module)
            return True

        watch.when_done(model.get_submodule(architecture.layers[layer]), check)
    if layers:
        watch_layers(model, architecture, sorted(set(layers)), hooks)
    watch_embedding(model, architecture, writers, hooks)


def watch_layers(model: PreTrainedModel, architecture: Architecture, layers: Collection[int], hooks: ExitStack) -> None:
    """Raise ArchitectureError, in the first pass, when the model goes around all of these layers."""
    watch = Watch(hooks)
    modules = [model.get_submodule(architecture.layers[layer]) for layer in layers]
    watch.mark(modules)

    def check() -> bool:
        if watch.called.isdisjoint(modules):
            raise bypassed(architecture.layers[next(iter(layers))])
        return True

    for whole in {model, decoder_of(model, architecture)}:
        watch.when_done(whole, check)


def watch_embedding(
    model: PreTrainedModel, architecture: Architecture, writers: Collection[Writer], hooks: ExitStack
) -> None:
    """Raise ArchitectureError, in the first pass, when the decoder is given tokens and embeds them in another way."""
    embedding, decoder = model.get_input_embeddings(), decoder_of(model, architecture)
    writer = next((one for one in writers if model.get_submodule(one.hook) is embedding), None)
    if writer is None:
        return
    watch, given = Watch(hooks), [False]
    watch.mark([embedding])

    def tokens(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> None:
        first = args[0] if args else kwargs.get("input_ids")
        given[0] = module is decoder and isinstance(first, Tensor) and not first.is_floating_point()

    def check() -> bool:
        if given[0] and embedding not in watch.called:
            raise bypassed(writer.module)
        return given[0]

    hooks.callback(decoder.register_forward_pre_hook(tokens, with_kwargs=True).remove)
    watch.when_done(decoder, check)


def decoder_of(model: PreTrainedModel, architecture: Architecture) -> nn.Module:
    """Return the module that holds the list of decoder layers."""
    decoder: nn.Module = model.get_submodule(architecture.layers[0].rpartition(".")[0].rpartition(".")[0])
    return decoder
