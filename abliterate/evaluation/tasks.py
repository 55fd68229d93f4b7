"""What the model can still do: tasks of the lm-eval harness, run on the live model.

Requests are put as the harness puts them by default, for any model: without the chat template, with as many examples as the task
says, and with the harness's own seeds, so that figures can be held against published ones of the same setting.
"""

from __future__ import annotations

import copy
import io
import logging
import math
import random
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import datasets
import numpy
import torch
import yaml  # type: ignore[import-untyped]
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from abliterate.errors import InputError, first_line
from abliterate.evaluation.statistics import Z95, json_number
from abliterate.evaluation.task_files import check_task_file, task_rules
from abliterate.extras import require
from abliterate.models.batches import BatchSize, check_batch_size, model_device
from abliterate.progress import SILENT, Advance, Progress

RANDOM_SEED, OTHER_SEED = 0, 1234
"""The harness's: for Python's generator, and for those of numpy, torch and the choice of examples."""

GROUP = re.compile(r"^group\s*:", re.M)
"""What the file of a group of tasks says."""

NOT_LOADED = (OSError, ValueError, LookupError, TypeError, RuntimeError, AssertionError, ImportError, yaml.YAMLError)
"""What tasks raise when their file, their data or a package of theirs is not there or not as it should be."""

NOT_RUN = (AssertionError, LookupError, TypeError, AttributeError, ValueError, ArithmeticError)
"""What the harness raises for documents that do not fit the task, and for replies longer than the model's context."""


@dataclass(frozen=True)
class TaskMean:
    """A metric of one task, over `count` documents, with the standard error that the harness gives (NaN: none)."""

    value: float
    count: int
    standard_error: float

    @property
    def interval(self) -> tuple[float, float]:
        """Return the 95% interval, 1.96 standard errors to each side."""
        return self.value - Z95 * self.standard_error, self.value + Z95 * self.standard_error

    def to_json(self) -> dict[str, object]:
        """Return mean, number of documents and interval."""
        low, high = self.interval
        return {
            "mean": json_number(self.value),
            "count": self.count,
            "low": json_number(low),
            "high": json_number(high),
        }


def capability(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    tasks: Sequence[str],
    *,
    limit: int | None = None,
    batch_size: BatchSize = "auto",
    chat_template: bool = False,
    trust_remote_code: bool = False,
    progress: Progress = SILENT,
) -> dict[str, dict[str, TaskMean]]:
    """Return every metric of every task (and of every group, where groups are asked for), by their names.

    `tasks` are names that the harness knows, or paths of task files (.yaml). A metric read through a filter carries
    its name, as in "exact_match,strict-match". `limit` is the number of documents of each task. Automatic
    batches are as large as fits on CUDA, and of one request elsewhere. Model, tokenizer and the state of the
    random generators are left as they were. Files of one's own run no code without `trust_remote_code`.

    Raises InputError without the `lm-eval` package, and for tasks that are unknown, cannot be loaded, or run code
    of the model's or data of other kinds than text.
    """
    check_batch_size(batch_size)
    if not tasks or (limit is not None and limit < 1):
        raise InputError(
            f"{len(tasks)} tasks, limit {limit}: name at least one task, and at least one document of each"
        )
    require("eval", "a capability task")
    with quiet_tasks():
        import lm_eval
        from lm_eval.models.huggingface import HFLM
    with quiet_tasks(), seeded(), own_reply_length(model), task_rules(trust_remote_code):
        loaded = load_tasks(tasks, trust_remote_code)
        harness = reporting(HFLM, progress)(
            pretrained=model, tokenizer=copy.deepcopy(tokenizer), batch_size=task_rows(model, batch_size)
        )
        harness._device = model_device(model)  # the harness asks the model, which has several where it is offloaded
        try:
            found = lm_eval.evaluate(
                harness, loaded, limit=limit, apply_chat_template=chat_template, fewshot_as_multiturn=chat_template,
                log_samples=False,
            )  # fmt: skip
        except InputError:
            raise
        except NOT_RUN as error:
            raise InputError(f"the harness does not run {', '.join(tasks)}: {first_line(error)}") from error
    results = found["results"].items()
    return {name: means(metrics) for name, metrics in results if "sample_len" in metrics}  # a group may have no figure


def load_tasks(names: Sequence[str], trusted: bool = False) -> Any:
    """Return the tasks as the harness holds them; without a number of examples there are none.

    Raises InputError for tasks that are unknown, cannot be loaded, or run code that is not trusted.
    """
    from lm_eval.tasks import TaskManager

    specs = [str(Path(name).expanduser()) if is_file_name(name) else name for name in names]
    files = [Path(spec) for spec in specs if is_file_name(spec)]
    for file in files:
        check_task_file(file, trusted)
    # Reading the harness's own 14,000 tasks takes seconds, which files of one's own have no use for; a folder of one's
    # own is read, with all that is below it, only where a group's file names the tasks beside it.
    groups = [file for file in files if GROUP.search(read_text(file))]
    manager = TaskManager(
        include_path=sorted({file.parent for file in groups}), include_defaults=len(files) < len(names)
    )
    # lm-eval 0.4.13 takes the tasks that a group's file lists for its name, so groups are asked for by their own.
    own = {str(entry.yaml_path): name for name, entry in manager.task_index.items() if entry.yaml_path in groups}
    built = []
    for spec in specs:
        if not is_file_name(spec) and spec not in manager.task_index:
            near = get_close_matches(spec, manager.all_tasks, 3)
            hint = f"did you mean {' or '.join(near)}?" if near else "`lm-eval ls tasks` lists them"
            raise InputError(f"{spec!r} is not a task of the harness; {hint}")
        try:
            built += tasks_of(manager.load([own.get(spec, spec)]))
        except InputError:
            raise
        except NOT_LOADED as error:
            raise InputError(f"task {spec} cannot be loaded: {first_line(error)}") from error
    try:
        loaded = manager.load(built)
    except InputError:
        raise
    except ValueError as error:  # a group and one of its tasks
        raise InputError(f"{first_line(error)}; name each task once") from error
    for name, task in loaded["tasks"].items():
        unsafe = getattr(task, "UNSAFE_CODE", False)
        if unsafe or getattr(task, "MULTIMODAL", False):
            what = "runs code that the model writes" if unsafe else "shows the model images or sounds"
            raise InputError(f"task {name} {what}, which is not supported here; run it with lm-eval itself")
        if task.get_config("num_fewshot") is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=OTHER_SEED)
    return loaded


def is_file_name(name: str) -> bool:
    """Return whether a task is given as the path of its file."""
    return name.endswith((".yaml", ".yml"))


def read_text(file: Path) -> str:
    """Return what is in a task file; raises InputError when it cannot be read."""
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file} cannot be read as a task; give the path of a .yaml file, or the name of a task"
        ) from error


def tasks_of(loaded: Any) -> list[Any]:
    """Return the groups of what was loaded, and the tasks that are in none."""
    inside = {task.task_name for group in loaded["groups"].values() for task in group.get_all_tasks()}
    nested = {child.name for group in loaded["groups"].values() for child in group.get_all_groups()}
    groups = [group for name, group in loaded["groups"].items() if name not in nested]
    return [*groups, *(task for name, task in loaded["tasks"].items() if name not in inside)]


def reporting(base: Any, progress: Progress) -> Any:
    """Return a subclass of the harness's model that shows no bars of its own and tells `progress` how far it is."""

    class Reporting(base):  # type: ignore[misc]
        advance: Advance | None = None

        def loglikelihood(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self.told(super().loglikelihood, requests)

        def loglikelihood_rolling(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self.told(super().loglikelihood_rolling, requests)

        def generate_until(self, requests: Any, disable_tqdm: bool = False) -> Any:
            return self.told(super().generate_until, requests)

        def told(self, method: Callable[..., Any], requests: Any) -> Any:
            left = len(requests)
            with progress.step("running capability tasks", left, "requests") as advance:

                def bounded(count: int) -> None:
                    # One row may answer several requests, and a long text takes several rows.
                    nonlocal left
                    count = min(count, left)
                    left -= count
                    advance(count)

                self.advance = bounded
                try:
                    answers = method(requests, disable_tqdm=True)
                finally:
                    self.advance = None
                advance(left)
            return answers

        def _detect_batch_size(self, *args: Any, **how: Any) -> Any:
            advance, self.advance = self.advance, None
            try:
                return super()._detect_batch_size(*args, **how)
            finally:
                self.advance = advance

        def _model_call(self, inps: Any, *args: Any, **how: Any) -> Any:
            output = super()._model_call(inps, *args, **how)
            if self.advance is not None:
                self.advance(len(inps))
            return output

        def _model_generate(self, context: Any, *args: Any, **how: Any) -> Any:
            output = super()._model_generate(context, *args, **how)
            if self.advance is not None:
                self.advance(len(context))
            return output

    return Reporting


def task_rows(model: PreTrainedModel, batch_size: BatchSize) -> BatchSize:
    """Return the batch size for the harness, whose own search runs into the limit of the memory to find it."""
    if batch_size != "auto":
        return batch_size
    return "auto" if model_device(model).type == "cuda" else 1


def means(metrics: Mapping[str, Any]) -> dict[str, TaskMean]:
    """Return the metrics of one task of the harness's results."""
    count = int(metrics["sample_len"])
    found = {}
    for key, value in metrics.items():
        metric, comma, filtered = key.partition(",")
        if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        error = metrics.get(f"{metric}_stderr,{filtered}")
        error = float(error) if isinstance(error, int | float) else math.nan
        found[metric if filtered == "none" else key] = TaskMean(float(value), count, error)
    return found


@contextmanager
def own_reply_length(model: PreTrainedModel) -> Iterator[None]:
    """Inside the context the tasks say how long a reply may be: the model's `max_new_tokens` would win over them."""
    config = model.generation_config
    before = config.max_new_tokens if config is not None else None
    try:
        if config is not None:
            config.max_new_tokens = None
        yield
    finally:
        if config is not None:
            config.max_new_tokens = before


class Nowhere(io.StringIO):
    """Forgets what is written to it."""

    def write(self, text: str, /) -> int:
        """Write nothing."""
        return len(text)


@contextmanager
def quiet_tasks() -> Iterator[None]:
    """Inside the context the harness logs errors only, and neither it nor the libraries it calls write to the terminal."""
    logger, sink = logging.getLogger("lm_eval"), Nowhere()
    level, bars = logger.level, datasets.are_progress_bars_disabled()
    # Under this name rich, which may draw `progress` meanwhile, finds the stream that another has taken the place of.
    sink.rich_proxied_file = getattr(sys.stderr, "rich_proxied_file", sys.stderr)  # type: ignore[attr-defined]
    logger.setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        with redirect_stdout(Nowhere()), redirect_stderr(sink):
            yield
    finally:
        logger.setLevel(level)
        if not bars:
            datasets.enable_progress_bars()


@contextmanager
def seeded() -> Iterator[None]:
    """Inside the context the generators start from the harness's seeds; afterwards they are as they were."""
    state, other = random.getstate(), numpy.random.get_state()
    with ExitStack() as stack:
        stack.callback(numpy.random.set_state, other)
        stack.callback(random.setstate, state)
        stack.enter_context(torch.random.fork_rng(range(torch.cuda.device_count())))
        random.seed(RANDOM_SEED)
        numpy.random.seed(OTHER_SEED)
        torch.manual_seed(OTHER_SEED)
        yield
