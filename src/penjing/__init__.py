"""penjing makes a trained model small enough for the device that must carry it, and proves what that cost.

import penjing
graph = penjing.capture(module, example)                 # torch module -> Graph, checked against its source
program = penjing.lower(penjing.quantize(graph, batches))
penjing.save(penjing.build(program), "model.tray")
model = penjing.load("model.tray")                       # on the device: numpy alone
"""

import importlib
from typing import TYPE_CHECKING, Any

from penjing.core import version

if TYPE_CHECKING:
    from penjing.api import (
        BuildOptions,
        Port,
        apply,
        build,
        capture,
        capture_onnx,
        clean,
        export_onnx,
        lower,
        prune,
        quantize,
        save,
        stream,
        trainable,
    )
    from penjing.core.errors import PenjingError
    from penjing.core.length import Length
    from penjing.ir.graph import Graph
    from penjing.recipe.data import Data
    from penjing.recipe.graph_file import load_graph, save_graph
    from penjing.recipe.recipe import Recipe, load_recipe
    from penjing.runtime.loading import load
    from penjing.runtime.model import Model

__version__ = version.VERSION

__all__ = [
    "BuildOptions",
    "Data",
    "Graph",
    "Length",
    "Model",
    "PenjingError",
    "Port",
    "Recipe",
    "__version__",
    "apply",
    "build",
    "capture",
    "capture_onnx",
    "clean",
    "export_onnx",
    "load",
    "load_graph",
    "load_recipe",
    "lower",
    "prune",
    "quantize",
    "save",
    "save_graph",
    "stream",
    "trainable",
]

_HOMES = {
    "Data": "penjing.recipe.data",
    "Graph": "penjing.ir.graph",
    "Length": "penjing.core.length",
    "Model": "penjing.runtime.model",
    "PenjingError": "penjing.core.errors",
    "Recipe": "penjing.recipe.recipe",
    "load": "penjing.runtime.loading",
    "load_graph": "penjing.recipe.graph_file",
    "load_recipe": "penjing.recipe.recipe",
    "save_graph": "penjing.recipe.graph_file",
}


def __getattr__(name: str) -> Any:
    # `import penjing.runtime` passes through here and must stay light, so names are fetched when first used
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES.get(name, "penjing.api")), name)
