"""What runs on the device: numpy and penjing, no torch. One call of the network a character; the choice is made here.

python generate.py "a man is" [--count 200] [--temperature 0.7] [--top 8] [--seed 0]
"""

import argparse
import sys
import time

import numpy as np

import penjing
from text import choose, text_of, tokens_of

parser = argparse.ArgumentParser()
parser.add_argument("beginning", nargs="?", default="\n")
parser.add_argument("--count", type=int, default=110, help="characters to write, as far as the session has room for")
parser.add_argument("--temperature", type=float, default=0.7)
parser.add_argument("--top", type=int, default=8, help="likeliest characters to choose from")
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()

model = penjing.load("characters.tray")
assert model.self_test() == 0, "this machine computes other bytes than the tray promises"
step = model.bind(reals=True)
rng = np.random.default_rng(given.seed)
tokens, spent = [*tokens_of(given.beginning)], 0.0
if not tokens:
    sys.exit("begin with at least one character")
(token,), (logits,) = step.inputs, step.outputs
assert step.reset is not None
step.reset()
for i in range(len(tokens) + given.count):
    token[...] = tokens[i]
    began = time.perf_counter()
    try:
        step.run()
    except penjing.errors.InvalidInput as full:
        print(f"({full.what})", file=sys.stderr)
        break
    spent += time.perf_counter() - began
    if i + 1 == len(tokens):
        tokens.append(choose(logits[0, 0], rng, given.temperature, given.top))
print(text_of(np.array(tokens)))
print(
    f"\nlibrary {(i + 1) / spent:.0f} characters a second, {1e6 * spent / (i + 1):.0f} us a character", file=sys.stderr
)
assert "torch" not in sys.modules
