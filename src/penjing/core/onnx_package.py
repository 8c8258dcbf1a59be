"""The onnx package, which is loaded only where an ONNX file is read or written."""

import importlib
from typing import Any

from penjing.core.errors import MissingDependency


def import_onnx(name: str = "onnx") -> Any:
    """The onnx package or a module of it.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingDependency(
            "ONNX files need the onnx package, which is not installed", hint="pip install 'penjing[compress]'"
        ) from error
