"""Small reference networks, data sets, and trainings that are known to work, for the demo, docs, tests and benchmarks.

Importing this package needs numpy alone; torch, scikit-learn and Pillow are imported by the functions that use them.
"""

from penjing.zoo.catalog import ZooModel, create, find, names
from penjing.zoo.data import Dataset, cifar10, digits, load, mnist
from penjing.zoo.inputs import InputKind
from penjing.zoo.trainings import Training

__all__ = [
    "Dataset",
    "InputKind",
    "Training",
    "ZooModel",
    "cifar10",
    "create",
    "digits",
    "find",
    "load",
    "mnist",
    "names",
]
