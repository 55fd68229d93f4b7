"""`python -m abliterate` is the command."""

from abliterate.cli import main

main()
