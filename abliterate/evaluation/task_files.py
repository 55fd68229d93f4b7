"""Task files of one's own, which are somebody else's word: they run no code unless it is trusted.

A file of the lm-eval harness can import Python beside it (`!function`), take other files in, name a class, let the Hub's
metrics or generation code run, and its templates are Jinja. Without trust all of that is refused by name, and templates are
filled in a sandbox. The tasks that the harness itself ships are its own code, as installed as the rest of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import jinja2
import yaml  # type: ignore[import-untyped]
from jinja2.exceptions import SecurityError
from jinja2.sandbox import SandboxedEnvironment

from abliterate.errors import InputError, first_line

MAX_BYTES = 4 << 20
"""A task file is written by hand."""

CODE_KEYS = ("class", "include", "custom_dataset", "process_docs", "process_results", "use_prompt")
"""What names code, or other files that may."""

TABLES = ("json", "csv", "parquet", "arrow", "text")
"""What the datasets package reads that is a file of rows: others of its formats open databases or connections."""

DATASET_KEYS = ("cache_dir", "download_config", "storage_options", "token", "use_auth_token", "trust_remote_code")
"""What says where data is kept, and who one is: not a task's to say."""

GENERATION_KEYS = (
    *("until", "stop", "max_gen_toks", "max_new_tokens", "max_tokens", "max_length", "min_new_tokens", "do_sample"),
    *("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "no_repeat_ngram_size"),
    *("num_beams", "length_penalty", "early_stopping", "num_return_sequences", "seed", "think_end_token"),
)
"""How replies are sampled; transformers takes code too, by name (`custom_generate`)."""


def check_task_file(path: Path, trusted: bool) -> None:
    """Raise InputError for a task file that cannot be read, and, unless trusted, for one that may run code."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        raise InputError(f"{path} cannot be read as a task; give the path of a .yaml file, or the name of a task")
    if trusted:
        return
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader=tagless(path))
    except InputError:
        raise
    except (OSError, ValueError, TypeError, OverflowError, RecursionError, yaml.YAMLError) as error:
        raise InputError(f"task {path} cannot be loaded: {first_line(error)}") from error
    if isinstance(content, dict):
        check_content(path, content)


def tagless(path: Path) -> type[yaml.SafeLoader]:
    """Return a loader of plain YAML that refuses every tag of its own kind, such as `!function`."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        pass

    def refuse(loader: yaml.SafeLoader, node: yaml.Node) -> None:
        raise may_run_code(path, f"it holds {node.tag}")

    Loader.add_constructor(None, refuse)
    return Loader


def check_content(path: Path, content: Mapping[Any, Any]) -> None:
    """Raise InputError for what may run code in a task, or in one of the tasks that a group lists."""
    for config in configs(content):
        for key in CODE_KEYS:
            if config.get(key):
                raise may_run_code(path, f"it holds {key}")
        dataset = config.get("dataset_path")
        if isinstance(dataset, str) and dataset not in TABLES and dataset in packaged_formats():
            raise may_run_code(path, f"its data is in the format {dataset}")
        for key, allowed in (("dataset_kwargs", None), ("generation_kwargs", GENERATION_KEYS)):
            given = config.get(key)
            for name in given if isinstance(given, dict) else ():
                if name in DATASET_KEYS or (allowed is not None and name not in allowed):
                    raise may_run_code(path, f"its {key} holds {name}")
        metrics = config.get("metric_list")
        for one in metrics if isinstance(metrics, list) else ():
            if isinstance(one, dict) and one.get("hf_evaluate"):
                raise may_run_code(path, "it takes a metric from the Hub")


def configs(content: Mapping[Any, Any]) -> Iterator[Mapping[Any, Any]]:
    """Yield what a file says of a task, and of each that it lists; aliases may make it a circle."""
    seen: list[Mapping[Any, Any]] = []
    waiting = [content]
    while waiting:
        one = waiting.pop()
        if any(one is other for other in seen):
            continue
        seen.append(one)
        yield one
        tasks = one.get("task")
        waiting += [task for task in tasks if isinstance(task, dict)] if isinstance(tasks, list) else []


def packaged_formats() -> frozenset[str]:
    """Return the formats that the datasets package reads by name."""
    from datasets.packaged_modules import _PACKAGED_DATASETS_MODULES

    return frozenset(_PACKAGED_DATASETS_MODULES)


def may_run_code(path: Path, what: str) -> InputError:
    """Return the error for a task file that may run code."""
    return InputError(f"{path}: {what}, which can run code; read it, then pass --trust-remote-code to allow it")


@contextmanager
def task_rules(trusted: bool) -> Iterator[None]:
    """Inside the context the harness fills in templates so that their failures are one line, and runs only code that may.

    Whatever file a group leads to is looked at as the harness has read it.
    """
    from lm_eval import utils
    from lm_eval.tasks import _factory, _index, _yaml_loader

    with ExitStack() as stack:
        stack.enter_context(replaced(utils, "env", environment(utils.env, trusted)))
        if not trusted:
            checked, plain = readers(_yaml_loader.load_yaml)
            stack.enter_context(replaced(_factory, "load_yaml", checked))
            stack.enter_context(replaced(_index, "load_yaml", plain))
            function = guarded_import(_yaml_loader._import_func_in_yml)
            stack.enter_context(replaced(_yaml_loader, "_import_func_in_yml", function))
        yield


def readers(load: Callable[..., Any]) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return what reads a task file and refuses code, and what reads it for the harness's list of names alone."""

    def checked(path: str | Path, **how: Any) -> Any:
        if is_shipped(Path(path)):
            return load(path, **how)
        content = load(path, **{**how, "recursive": False})
        check_content(Path(path), content)
        check_metrics(Path(path), content)
        return content

    def plain(path: str | Path, **how: Any) -> Any:
        return load(path, **{**how, "recursive": how.get("recursive", True) and is_shipped(Path(path))})

    return checked, plain


def guarded_import(load: Callable[..., Any]) -> Callable[..., Any]:
    """Return what imports the function that a task file names, where the file is the harness's."""

    def guarded(name: str, folder: Path) -> Any:
        if not is_shipped(folder):
            raise may_run_code(folder, f"a task in it holds !function {name}")
        return load(name, folder)

    return guarded


def check_metrics(path: Path, content: Mapping[Any, Any]) -> None:
    """Raise InputError for a metric that the harness does not have: it would load it from the Hub, as code."""
    from lm_eval.api import metrics  # noqa: F401 - fills the registry
    from lm_eval.api.registry import metric_registry

    for config in configs(content):
        listed = config.get("metric_list")
        for one in listed if isinstance(listed, list) else ():
            name = one.get("metric") if isinstance(one, dict) else None
            if isinstance(name, str) and name not in metric_registry:
                raise may_run_code(path, f"{name!r} is no metric of the harness, but one of the Hub")


def is_shipped(path: Path) -> bool:
    """Return whether a file or folder is one that the harness ships."""
    import lm_eval

    return path.expanduser().resolve().is_relative_to(Path(str(lm_eval.__file__)).resolve().parent)


def environment(own: jinja2.Environment, trusted: bool) -> jinja2.Environment:
    """Return what fills in templates as the harness's `own` does: in a sandbox, unless trusted; failures as InputError."""
    base: type[jinja2.Environment] = jinja2.Environment if trusted else SandboxedEnvironment

    class Template(jinja2.Template):
        def render(self, *values: Any, **named: Any) -> str:
            with template_errors():
                return super().render(*values, **named)

    class Environment(base):  # type: ignore[valid-type,misc]
        template_class = Template

        def from_string(self, source: Any, *others: Any, **how: Any) -> jinja2.Template:
            with template_errors():
                template: jinja2.Template = super().from_string(source, *others, **how)
            return template

    made = Environment(loader=own.loader, undefined=own.undefined, keep_trailing_newline=own.keep_trailing_newline)
    made.filters.update(own.filters)
    return made


@contextmanager
def template_errors() -> Iterator[None]:
    """Turn whatever a template raises into one line."""
    try:
        yield
    except SecurityError as error:
        raise InputError(
            f"a template of the task leaves its sandbox ({first_line(error)}); read it, then pass --trust-remote-code to "
            "allow it"
        ) from error
    except Exception as error:
        said = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"a template of the task fails ({said}); check it against the task's data") from error


@contextmanager
def replaced(module: Any, name: str, value: object) -> Iterator[None]:
    """Inside the context a module's attribute is another."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)
