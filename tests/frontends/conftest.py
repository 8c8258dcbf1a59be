"""Models that tests of more than one front end import."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def hugging_face() -> ModuleType:
    """hugging_face.py beside this file."""
    pytest.importorskip("torch")
    spec = importlib.util.spec_from_file_location("hugging_face", Path(__file__).with_name("hugging_face.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
