"""The encoder of all-MiniLM-L6-v2 with its trained weights: 6 layers of width 384, 12 heads of 32, 1536 between.

Its inputs are the embeddings of real text, 128 tokens without padding; the look-up is left out, so that every engine is
given the same floats.
"""

import numpy as np
import torch
from torch import nn

from penjing.core import knobs
from penjing.core.errors import MissingData
from penjing.zoo.minilm import minilm, minilm_tokenizer

LENGTH = 128
TITLE = f"MiniLM-L6 encoder, length {LENGTH}"
ORIGIN = "trained (all-MiniLM-L6-v2)"
_TEXT = "sts2015_test.tsv"


def encoder() -> nn.Module:
    """(n, LENGTH, 384) to the same, in evaluation mode."""
    return minilm().encoder


def inputs(count: int, skip: int = 0) -> np.ndarray:
    """f32 (count, LENGTH, 384): passages of the sentences of STS 2015, one after the other, `skip` left out."""
    tokenizer, embeddings = minilm_tokenizer(), minilm().embeddings
    tokenizer.no_truncation()
    folder = knobs.DATA.path()
    if folder is None or not (folder / _TEXT).is_file():
        raise MissingData(f"{_TEXT} is not there", hint=f"set {knobs.DATA.name} to the folder that holds it")
    lines = (folder / _TEXT).read_text(encoding="utf-8").splitlines()
    first, last = tokenizer.encode("").ids
    words = tokenizer.encode(" ".join(line.split("\t")[1] for line in lines), add_special_tokens=False).ids
    inner = LENGTH - 2
    passages = [words[i * inner : (i + 1) * inner] for i in range(skip, skip + count)]
    with torch.inference_mode():
        found: np.ndarray = embeddings(torch.tensor([[first, *passage, last] for passage in passages])).numpy()
    return found
