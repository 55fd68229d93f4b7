"""The command: `abliterate`, and `python -m abliterate`."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command; Ctrl-C is answered in one line even while its own parts are imported."""
    try:
        from abliterate.parallel.waiting import share_the_machine

        share_the_machine()
        from abliterate.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.stderr.write("abliterate: interrupted; nothing was begun\n")
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
