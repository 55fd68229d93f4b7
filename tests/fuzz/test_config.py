"""A config.json from strangers: a model without weights, or one line."""

from __future__ import annotations

import json
import logging
import tempfile
import warnings
from pathlib import Path

from hypothesis import given

from abliterate.models.source import resolve_config
from abliterate.quantization.formats.registry import format_of
from fixtures.mutations import fuzz, mutated_json, outcome
from fixtures.tiny_chat import TINY

CONFIG = {
    **json.loads((TINY / "config.json").read_text(encoding="utf-8")),
    "quantization_config": {
        "quant_method": "fp8",
        "weight_block_size": [128, 128],
        "modules_to_not_convert": ["lm_head"],
    },
}


def test_a_model_or_one_line() -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)

        @fuzz
        @given(mutated_json(CONFIG))
        def target(content: bytes) -> None:
            (folder / "config.json").write_bytes(content)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # what transformers thinks of such a config
                outcome(lambda: format_of(folder))
                outcome(lambda: resolve_config(str(folder)))

        target()
