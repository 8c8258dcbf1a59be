"""The `penjing` command. `penjing --help` teaches; every command takes `--json`.

Importing this package is light and always works; `main` needs typer and rich, and says so where they are missing.
"""

import importlib
import json
import sys

from penjing.core.errors import MissingDependency

__all__ = ["main"]


def main() -> None:
    """Run the command line on `sys.argv`; never returns. Exit codes: see `penjing.cli.app`."""
    try:
        app = importlib.import_module("penjing.cli.app")
    except MissingDependency as error:
        if "--json" in sys.argv[1:]:
            sys.stdout.write(json.dumps(error.as_dict(), indent=2) + "\n")
        else:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    app.main()
