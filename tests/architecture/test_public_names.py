"""The public names of the package, written out: a new one, or one that goes, is a decision and shows up here."""

import penjing

PUBLIC = [
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


def test_the_package_exports_these_names_and_no_others():
    assert sorted(penjing.__all__) == PUBLIC


def test_every_public_name_is_there():
    missing = [name for name in PUBLIC if getattr(penjing, name, None) is None]
    assert not missing
