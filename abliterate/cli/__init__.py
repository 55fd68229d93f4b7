"""The command line: parse, call, render. The only room that prints."""

# In the order of --help, by panel: edit, measure, look, ship.
# isort: off
from abliterate.cli import run, demo, apply, heal  # noqa: F401
from abliterate.cli import evaluate, compare, verify, reproduce  # noqa: F401
from abliterate.cli import inspect, architectures, chat, report  # noqa: F401
from abliterate.cli import export, push  # noqa: F401

# isort: on
from abliterate.cli.app import main

__all__ = ["main"]
