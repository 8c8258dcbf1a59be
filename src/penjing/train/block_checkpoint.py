"""What a reconstruction has found so far, in one file, so that an interrupted one goes on at the block where it was."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from penjing.ir.types import Constant, Quant
from penjing.train.checkpoint import FORMAT, damaged, read_content, write_content


class BlockCheckpoint:
    """A file for `reconstruct`: `known` is what an interrupted call has found, `keep` adds what a block gives.

    Args:
        path: the file, which need not exist.
        identity: everything that decides the result: options, and digests of the graph and the samples.

    Raises:
        InvalidInput: the file is damaged, or belongs to another training.
    """

    def __init__(self, path: Path, identity: dict[str, str]) -> None:
        self._path, self._identity = path, identity
        content = read_content(path, identity)
        try:
            self.known = {} if content is None else {name: _constant(one) for name, one in content["found"].items()}
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise damaged(path, str(error)) from error

    def keep(self, found: Mapping[str, Constant]) -> None:
        """Replace the file by all that is known now, `found` included.

        Raises:
            WriteFailed: the disk is full, read-only, or the folder is missing; an older file is still whole.
        """
        self.known |= found
        content = {name: _content(constant) for name, constant in self.known.items()}
        write_content(self._path, {"format": FORMAT, "identity": self._identity, "found": content})


def _content(constant: Constant) -> dict[str, Any]:
    quant = constant.quant
    grid = None if quant is None else (list(quant.scales), quant.zero_point, quant.axis)
    return {"array": torch.tensor(constant.array), "grid": grid}


def _constant(content: Mapping[str, Any]) -> Constant:
    grid = content["grid"]
    quant = None if grid is None else Quant(tuple(grid[0]), grid[1], grid[2])
    return Constant(content["array"].numpy(), quant=quant)
