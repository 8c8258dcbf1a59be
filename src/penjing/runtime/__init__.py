"""Run a tray on this machine. Needs numpy, nothing else; importing it loads neither numpy nor anything heavy.

import penjing.runtime
model = penjing.runtime.load("edgecnn.tray")
scores = model.run(x)                      # float32 in, float32 out
label, score = model.classify(image)[0]    # raw pixels in, names out
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from penjing.runtime.loading import load
    from penjing.runtime.model import Model

__all__ = ["Model", "load"]


def __getattr__(name: str) -> Any:
    # numpy alone takes longer to import than this package promises for itself, so it waits for the first use
    if name == "load":
        from penjing.runtime.loading import load

        return load
    if name == "Model":
        from penjing.runtime.model import Model

        return Model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
