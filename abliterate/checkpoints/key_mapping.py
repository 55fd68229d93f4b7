"""Where a model's parameters lie on disk: transformers' own conversion mapping, read in the direction of loading.

Experts are fused when a checkpoint is loaded, prefixes come and go, old names are renamed. The mapping that does it
is transformers', and there is no second one here.
"""

from __future__ import annotations

from collections.abc import Iterable

from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key


def stored_names(model: PreTrainedModel, on_disk: Iterable[str]) -> dict[str, list[tuple[str, bool]]]:
    """Return, per parameter in memory, the tensors on disk that it is loaded from, and whether they are converted.

    `model` may be on the meta device. A parameter that is stored as it is has one tensor, not converted; fused
    experts have one for each expert. Tensors that the model does not load are in no list.
    """
    transforms = get_model_conversion_mapping(model)
    renamings = [one for one in transforms if isinstance(one, WeightRenaming)]
    converters = [one for one in transforms if isinstance(one, WeightConverter)]
    known = model.state_dict()
    found: dict[str, list[tuple[str, bool]]] = {}
    for name in on_disk:
        loaded, converter = rename_source_key(name, renamings, converters, model.base_model_prefix, known)
        if loaded not in known and name in known:
            loaded, converter = name, None
        if loaded in known:
            found.setdefault(loaded, []).append((name, converter is not None))
    return found
