"""The command line: parse, call, render. The only room that prints."""

from abliterate.cli import edit, export, measure, chat, train, about  # noqa: I001, F401 - in the order of --help
from abliterate.cli.app import main

__all__ = ["main"]
