"""abliterate finds the refusal direction of an open-weight chat model and edits the weights along it.

from abliterate import ablated, capture, difference_in_means, load_prompts, orthogonalize

directions = difference_in_means(capture(model, tokenizer, harmful), capture(model, tokenizer, harmless))
with ablated(model, directions[15]):          # hooks: nothing is changed for good
    ...
orthogonalize(model, directions[15])          # in place, ready for fine-tuning
"""

import lazy_loader

# torch takes seconds to import, which --help and completion need not wait for. The names stand in __init__.pyi alone.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
