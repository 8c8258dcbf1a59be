"""Small reference networks, data sets and training recipes for the demo, the docs, tests and benchmarks.

Importing this package needs numpy alone; torch, scikit-learn and Pillow are imported by the functions that use them.
"""

from penjing.zoo.catalog import ZooModel, create, find, names
from penjing.zoo.data import Dataset, cifar10, digits, load, mnist
from penjing.zoo.inputs import InputKind
from penjing.zoo.recipes import Recipe

__all__ = [
    "Dataset",
    "InputKind",
    "Recipe",
    "ZooModel",
    "cifar10",
    "create",
    "digits",
    "find",
    "load",
    "mnist",
    "names",
]
