"""The command line: parse, read the configuration, make one asynchronous call.

Nothing heavy is imported until a command runs: `hotpath --help` answers in the time Python takes to start.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command that `sys.argv` asks for, and exit as CONTRACT says: 0, 1, 2, 3 or 130."""
    from hotpath.cli.app import run

    sys.exit(run(sys.argv[1:]))
