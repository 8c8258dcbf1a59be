"""The tutorial, block by block as a reader would run it."""

import importlib.util
import platform

import pytest


@pytest.mark.slow
def test_every_block_of_the_tutorial_runs_and_prints_what_the_page_shows(run_page, require):
    if platform.system() != "Linux":
        pytest.skip("the tutorial's compiler commands are those of Linux")
    if importlib.util.find_spec("ziglang") is None:
        pytest.skip("the package ziglang is not installed")
    for program in ("cc", "node", "bash"):
        require(program)
    run_page("docs/tutorial.md")
