"""What runs on the device: numpy, tokenizers and penjing, no torch.

python compare.py "A sentence." "Another one." ...
"""

import sys
import time

from sentences import LONGEST, vectors_of
from tokenizers import Tokenizer

import penjing

texts = sys.argv[1:]
tokenizer = Tokenizer.from_file("tokenizer.json")
tokenizer.no_padding()
tokenizer.enable_truncation(LONGEST)
model = penjing.load("similarity.tray")
ids = [one.ids for one in tokenizer.encode_batch(texts)]
began = time.perf_counter()
vectors = vectors_of(ids, model.run)
spent = time.perf_counter() - began
for i, text in enumerate(texts):
    for j in range(i):
        print(f"{vectors[i] @ vectors[j]:.2f}  {texts[j]}  |  {text}")
print(f"{1e3 * spent / len(texts):.1f} ms a sentence, by {model.engine.name}")
assert "torch" not in sys.modules
