"""The `penjing` command. `penjing --help` teaches; every command takes `--json`."""

from penjing.cli.app import main

__all__ = ["main"]
