"""The command line: parse, call, render. The only room that prints. A verb is a file, which registers itself."""

from importlib import import_module
from pkgutil import iter_modules

from abliterate.cli.app import in_order_of_help, main

__all__ = ["main"]

for _file in iter_modules(__path__):
    import_module(f"{__name__}.{_file.name}")
in_order_of_help()
