"""`python -m penjing.cli` is the `penjing` command."""

from penjing.cli import main

main()
