"""The command line: parse, call, render. The only room that prints."""

from abliterate.cli import run as edit, export, evaluate as measure, chat, heal as train, inspect as about  # noqa: I001, F401 - in the order of --help
from abliterate.cli.app import main

__all__ = ["main"]
