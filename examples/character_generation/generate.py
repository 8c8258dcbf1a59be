"""What runs on the device: numpy and penjing, no torch. One call of the network a character; the choice is made here.

python generate.py "a man is" [--count 110] [--temperature 0.7] [--top 8] [--seed 0]
"""

import argparse
import sys
import time

import numpy as np

import penjing
from text import choose, text_of, tokens_of

parser = argparse.ArgumentParser()
parser.add_argument("beginning")
parser.add_argument("--count", type=int, default=110, help="characters to write, as far as the session has room for")
parser.add_argument("--temperature", type=float, default=0.7, help="0 takes the likeliest")
parser.add_argument("--top", type=int, default=8, help="likeliest characters to choose from")
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()

model = penjing.load("characters.tray")
assert model.self_test() == 0, "this machine computes other bytes than the tray promises"
call, rng = model.bind(reals=True), np.random.default_rng(given.seed)
(token,), (logits,) = call.inputs, call.outputs
assert call.reset is not None
call.reset()
tokens, spent, steps = [*tokens_of(given.beginning)], 0.0, 0
end = len(tokens) + given.count
try:
    for at in range(end - 1):
        token[...] = tokens[at]
        began = time.perf_counter()
        call.run()
        spent, steps = spent + time.perf_counter() - began, steps + 1
        if at + 1 == len(tokens):
            tokens.append(choose(logits[0, 0], rng, given.temperature, given.top))
except penjing.PenjingError as full:
    print(full.what, file=sys.stderr)
print(text_of(np.array(tokens)))
print(f"library {steps / spent:.0f} characters a second, {1e6 * spent / steps:.0f} us each")
assert "torch" not in sys.modules
