"""The names of the files that stay beside a checkpoint on this machine."""

OBSERVATIONS = "observations.json"
EVALUATION = "evaluation.json"
PAGE = "report.html"

LOCAL = (OBSERVATIONS, EVALUATION, PAGE)
"""Not published: they quote prompts and the model's replies to them."""

MANIFEST, HEALED, HARDENED = "abliterate.json", "healed.json", "hardened.json"
"""The records of what abliterate wrote: of an edit, of a healed model, of a hardening adapter."""

TEMPLATE = "abliterate_template.jinja"
"""The chat template that a run was given, kept beside its record: under a name that no model has for its own."""


ADAPTER = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
"""The files of a PEFT adapter."""
DIRECTIONS = "directions.safetensors"
RECIPE = "recipe.json"
CARD = "README.md"
