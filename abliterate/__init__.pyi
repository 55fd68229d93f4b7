"""The public names, listed once: the package imports each from here when it is first used."""

from .activations.capture import Activations, capture
from .activations.separation import Separation
from .architectures.architecture import Architecture, find_architecture
from .architectures.tying import untie
from .directions.directions import Directions
from .directions.methods import difference_in_means, projected_difference_in_means
from .edits.in_place import orthogonalize
from .errors import AbliterateError
from .interventions import (
    Condition,
    ablated,
    ablated_rows,
    added,
    added_rows,
    affine,
    amplified,
    calibrated,
    mean_component,
    rows_where,
)
from .interventions.recipe import Recipe
from .models.live_model import LiveModel
from .models.loading import load_model
from .models.source import load_tokenizer, resolve
from .pipeline.options import Options
from .pipeline.run import Result, run
from .prompts.chat_format import ChatFormat
from .prompts.forms import load_forms
from .prompts.phrases import load_phrases
from .prompts.prompt_set import PromptSet, load_prompts
from .prompts.texts import Text
from .replies.refusals import is_refusal
from .studies.clusters.clustering import cluster
from .studies.clusters.effects import effects
from .studies.clusters.inputs import input_directions
from .studies.clusters.run import clusters
from .studies.features.autoencoder import SparseAutoencoder
from .studies.features.run import explain
from .studies.features.words import vocabulary
from .studies.phases.run import phases
from .studies.positions.run import positions
from .training.keep_out import KeepDirectionOut

__version__: str

__all__ = [
    "AbliterateError",
    "Activations",
    "Architecture",
    "ChatFormat",
    "Condition",
    "Directions",
    "KeepDirectionOut",
    "LiveModel",
    "Options",
    "PromptSet",
    "Recipe",
    "Result",
    "Separation",
    "SparseAutoencoder",
    "Text",
    "ablated",
    "ablated_rows",
    "added",
    "added_rows",
    "affine",
    "amplified",
    "calibrated",
    "capture",
    "cluster",
    "clusters",
    "difference_in_means",
    "effects",
    "explain",
    "find_architecture",
    "input_directions",
    "is_refusal",
    "load_forms",
    "load_model",
    "load_phrases",
    "load_prompts",
    "load_tokenizer",
    "mean_component",
    "orthogonalize",
    "phases",
    "positions",
    "projected_difference_in_means",
    "resolve",
    "rows_where",
    "run",
    "untie",
    "vocabulary",
]
