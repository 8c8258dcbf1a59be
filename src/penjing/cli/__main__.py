"""`python -m penjing.cli` is the `penjing` command."""

from penjing.cli.app import main

main()
