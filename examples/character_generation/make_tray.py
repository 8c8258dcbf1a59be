"""Train a character-level decoder on English sentences, make it a stream of 8-bit integers, write characters.tray.

python make_tray.py [TRAINING_STEPS]
"""

import csv
import os
import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

import penjing
from penjing.zoo.models.decoder import Decoder
from text import ALPHABET, tokens_of

LENGTH = 128  # characters of a sequence, and as many as a session remembers
BATCH = 32
RATE, WARM_UP = 4e-3, 20


def sentences() -> tuple[np.ndarray, np.ndarray]:
    """Tokens to train on and to test on: captions, headlines, answers and forum posts, one a line."""
    folder = Path(os.environ.get("PENJING_DATA") or ".")
    files = {"sick_test.txt": (1, 3), "sts2015_test.tsv": (1, 3)}
    if not all((folder / name).is_file() for name in files):
        sys.exit(f"set PENJING_DATA to the folder with {' and '.join(files)}")
    lines: list[str] = []
    for name, (first, end) in files.items():
        with (folder / name).open(encoding="utf-8", newline="") as file:
            rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            lines += [cell for row in rows for cell in row[first:end]]
    lines = sorted(set(lines))
    np.random.default_rng(0).shuffle(lines)
    cut = len(lines) // 20
    return tokens_of("\n".join(lines[cut:])), tokens_of("\n".join(lines[:cut]))


def sequences(tokens: np.ndarray, starts: np.ndarray) -> torch.Tensor:
    """(n, LENGTH + 1): inputs, and one character later what they should predict."""
    return torch.from_numpy(tokens[starts[:, None] + np.arange(LENGTH + 1)].astype(np.int64))


def train(network: Decoder, tokens: np.ndarray, steps: int) -> None:
    """In place."""
    rng = np.random.default_rng(0)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (0.05 + 0.95 * (1 - step / steps))
    )
    for _ in range(steps):
        x = sequences(tokens, rng.integers(0, len(tokens) - LENGTH - 1, BATCH))
        with torch.autocast("cpu", torch.bfloat16):
            loss = functional.cross_entropy(network(x[:, :-1]).float().flatten(0, 1), x[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()


def bits_per_character(logits: np.ndarray, x: torch.Tensor) -> float:
    """Mean of -log2 p of the characters that came."""
    loss = functional.cross_entropy(torch.from_numpy(logits).flatten(0, 1), x[:, 1:].flatten())
    return float(loss / np.log(2))


def characters_per_second(network: Decoder, x: np.ndarray) -> float:
    """Of torch, on one core, with its own cache."""
    with torch.inference_mode():
        began, past = time.perf_counter(), None
        for i in range(LENGTH):
            _, past = network.step(torch.from_numpy(x[:1, i : i + 1]), past)
    return LENGTH / (time.perf_counter() - began)


def main(steps: int) -> None:
    """Train, quantize, cut into characters, build, compare, write."""
    torch.manual_seed(0)
    torch.set_num_threads(1)  # a network this small trains fastest on one core
    train_tokens, test_tokens = sentences()
    network = Decoder(len(ALPHABET))
    train(network, train_tokens, steps)
    network.eval()

    tested = sequences(test_tokens, np.arange(0, 64) * (len(test_tokens) - LENGTH - 1) // 64)
    x = tested[:, :-1].numpy().astype(np.int32)
    with torch.inference_mode():
        in_float = network(tested[:, :-1]).numpy()
    starts = np.random.default_rng(1).integers(0, len(train_tokens) - LENGTH - 1, 64)
    calibration = sequences(train_tokens, starts)[:, :-1].numpy().astype(np.int32)
    whole = penjing.quantize(penjing.capture(network, x[:1], name="characters"), [calibration])
    card = {"description": "writes English, character by character"}
    penjing.save(
        penjing.build(penjing.lower(penjing.stream(whole)), penjing.BuildOptions(card=card)),
        "characters.tray",
        force=True,
    )
    without_library = penjing.BuildOptions(targets=())
    penjing.save(penjing.build(penjing.lower(whole), without_library), "whole.tray", force=True)

    in_int8 = penjing.load("whole.tray", engine="interpreter").run(x)
    session, read = penjing.load("characters.tray").session(), []
    for sample in x[:8]:
        session.reset()
        read.append(np.concatenate([session.step(token[None, None]) for token in sample], axis=1))
    print(f"{network_size(network)} weights, {steps} training steps of {BATCH * LENGTH} characters")
    print(f"float   {bits_per_character(in_float, tested):.3f} bits per character")
    print(f"int8    {bits_per_character(in_int8, tested):.3f} bits per character")
    differ = np.count_nonzero(np.concatenate(read) != in_int8[:8])
    print(f"numbers that differ between whole sequences and steps: {differ}")
    print(f"torch   {characters_per_second(network, tested.numpy()):.0f} characters a second")


def network_size(network: Decoder) -> int:
    """Its parameters."""
    return sum(parameter.numel() for parameter in network.parameters())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 500)
