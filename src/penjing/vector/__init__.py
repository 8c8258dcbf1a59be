"""Integer operators in the form that SIMD kernels take: weights packed into vectors, work cut into bands.

They mean what the operators mean that they replace, byte for byte, and stand only in programs that have been
specialised for a target: a tray never holds one. Found by scanning this folder, as `penjing.ops` does.
"""

from functools import cache
from types import MappingProxyType

from penjing.ir.scan import FolderRegistry
from penjing.vector.operator import VectorOperator


@cache
def vector_operators() -> MappingProxyType[str, type[VectorOperator]]:
    """Operator name -> class."""
    found = FolderRegistry(__name__, __path__)
    return MappingProxyType({name: cls for name, cls in found.items() if issubclass(cls, VectorOperator)})
