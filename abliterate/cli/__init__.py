"""The command line: parse, call, render. The only room that prints."""

from abliterate.cli import run, demo, apply, verify, reproduce, push, export, evaluate, compare, report, chat, heal, inspect, architectures  # noqa: F401, I001 - in the order of --help
from abliterate.cli.app import main

__all__ = ["main"]
