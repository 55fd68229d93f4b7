"""abliterate finds the refusal direction of an open-weight chat model and edits the weights along it.

from abliterate import ablated, capture, difference_in_means, load_prompts, orthogonalize

directions = difference_in_means(capture(model, tokenizer, harmful), capture(model, tokenizer, harmless))
with ablated(model, directions[15]):          # hooks: nothing is changed for good
    ...
orthogonalize(model, directions[15])          # in place, ready for fine-tuning
"""

from typing import Any

import lazy_loader

# torch takes seconds to import, which --help and completion need not wait for. The names stand in __init__.pyi alone.
_imported, _, __all__ = lazy_loader.attach_stub(__name__, __file__)


def __getattr__(name: str) -> Any:
    """Return a public name, which is imported when it is first used, or the version of what is installed."""
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    return _imported(name)


def __dir__() -> list[str]:
    """Return the public names and the version."""
    return sorted([*__all__, "__version__"])
