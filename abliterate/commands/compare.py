"""`abliterate compare`: several edits of one model, each held against it."""

from __future__ import annotations

from collections.abc import Sequence

from abliterate.evaluation.evaluation import Evaluation
from abliterate.pipeline.conditions import Settled
from abliterate.pipeline.evaluate_options import EvaluateOptions
from abliterate.pipeline.evaluation import evaluate_each
from abliterate.pipeline.options import AskOptions
from abliterate.progress import SILENT, Progress


def compare(
    options: AskOptions,
    evaluate_options: EvaluateOptions,
    edits: Sequence[str],
    progress: Progress = SILENT,
    settled: Settled | None = None,
) -> list[Evaluation]:
    """Measure every edit against `options.model`, which is measured once; `settled` as `evaluate`.

    Raises InputError, before any weights are loaded, where one of them reads or predicts other tokens.
    """
    return list(evaluate_each(options, evaluate_options, edits, options.model, progress, settled))
