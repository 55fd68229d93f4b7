"""The names of all files that abliterate writes, or looks for by name."""

MANIFEST, HEALED, HARDENED = "abliterate.json", "healed.json", "hardened.json"
"""The records of what abliterate wrote: of an edit, of a healed model, of a hardening adapter."""

SETTINGS = "abliterate.toml"
"""The options of a run, beside its record, as `--config` reads them."""

RECIPE = "recipe.json"
DIRECTIONS = "directions.safetensors"
"""An edit, beside its record."""

ACTIVATIONS = "activations.safetensors"
"""Captured activations that were saved by themselves."""

SEARCH = "search.safetensors"
"""The front of a search, beside the edit that was taken of it."""

TEMPLATE = "abliterate_template.jinja"
"""The chat template that a run was given, kept beside its record: under a name that no model has for its own."""

OBSERVATIONS = "observations.json"
EVALUATION = "evaluation.json"
PAGE = "report.html"

STUDIES = ("positions", "phases", "clusters", "features")
"""Studies by name: NAME.json is the record of one, NAME.safetensors its vectors, NAME-replies.jsonl what was said."""

STUDY_REPLIES = tuple(f"{study}-replies.jsonl" for study in STUDIES)

STUDY_RECORDS = tuple(f"{study}.json" for study in STUDIES)

LOCAL = (OBSERVATIONS, EVALUATION, PAGE, *STUDY_REPLIES, *STUDY_RECORDS)
"""Not published: they quote prompts and the model's replies to them (records of studies: phrases, and where each row is strongest)."""

CARD = "README.md"
CONFIG = "config.json"
"""The files of every model: its card, and what transformers builds it from."""

MODEL_WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
"""The weights of a checkpoint, in one file or listed."""

ADAPTER = "adapter_config.json"
ADAPTER_WEIGHTS = "adapter_model.safetensors"
"""The files of a PEFT adapter."""
