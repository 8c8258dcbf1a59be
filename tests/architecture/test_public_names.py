"""The public names of the package, written out: a new one, or one that goes, is a decision and shows up here."""

import penjing

PUBLIC = [
    "BuildOptions",
    "Graph",
    "Model",
    "PenjingError",
    "Port",
    "__version__",
    "build",
    "capture",
    "clean",
    "load",
    "lower",
    "prune",
    "quantize",
    "save",
    "trainable",
]


def test_the_package_exports_these_names_and_no_others():
    assert sorted(penjing.__all__) == PUBLIC


def test_every_public_name_is_there():
    missing = [name for name in PUBLIC if getattr(penjing, name, None) is None]
    assert not missing
