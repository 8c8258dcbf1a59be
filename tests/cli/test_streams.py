"""`penjing build --stream` and `penjing run --stream`: networks for sequences, call by call."""

import numpy as np
import pytest

from penjing.cli.streams import calls_of
from penjing.core.errors import InvalidInput
from penjing.runtime.loading import load

NET = """
import torch
from torch import nn


class Denoiser(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.gru = nn.Conv1d(3, 4, 3), nn.GRU(4, 5, batch_first=True)

    def forward(self, x):
        y = self.conv(nn.functional.pad(x.transpose(1, 2), (2, 0)))
        return self.gru(y.transpose(1, 2))[0]


class Backwards(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 2, batch_first=True, bidirectional=True)

    def forward(self, x):
        return self.gru(x)[0]


def decoder():
    from penjing.zoo.models.decoder import Decoder

    torch.manual_seed(0)
    return Decoder(9, width=8, layers=1, heads=1, groups=1)
"""
STEPS = 12
GRU = ("build", "frames.py:Denoiser", "--input-shape", f"{STEPS}x3", "--calibrate", "frames.npy", "--target", "host")
DECODER = ("build", "frames.py:decoder", "--input-shape", f"ids:{STEPS}", "--calibrate", "tokens.npy")


@pytest.fixture
def sequences(place):
    rng = np.random.default_rng(0)
    (place / "frames.py").write_text(NET)
    np.save("frames.npy", rng.normal(size=(8, STEPS, 3)).astype(np.float32))
    np.save("tokens.npy", rng.integers(0, 9, (8, STEPS)))
    np.save("text.npy", rng.integers(0, 9, STEPS))
    np.save("heard.npy", rng.normal(size=(STEPS, 3)).astype(np.float32))
    return place


@pytest.fixture
def streaming(penjing, sequences):
    told = penjing(*GRU, "--stream", "2", "-o", "stream.tray")
    assert told.code == 0, told.err
    return told


def test_calls_joined_are_the_whole_sequence_byte_for_byte(penjing, sequences, streaming):
    assert penjing(*GRU, "-o", "whole.tray").code == 0
    assert penjing("run", "stream.tray", "heard.npy", "--stream", "-o", "calls.npy").code == 0
    whole = load("whole.tray").run(np.load("heard.npy")[None])
    calls = np.load("calls.npy")
    assert calls.shape == (STEPS // 2, 2, 5)
    assert calls.reshape(whole.shape).tobytes() == whole.tobytes()


def test_an_onnx_file_streams_alike(penjing, sequences, streaming):
    assert penjing("export", *GRU[1:4], "-o", "net.onnx").code == 0
    assert penjing("build", "net.onnx", "--calibrate", "frames.npy", "--stream", "2", "-o", "onnx.tray").code == 0
    for name in ("stream", "onnx"):
        assert penjing("run", f"{name}.tray", "heard.npy", "--stream", "-o", f"{name}.npy").code == 0
    assert np.load("onnx.npy").tobytes() == np.load("stream.npy").tobytes()


def test_states_and_their_bytes_are_told(penjing, streaming):
    for told in (streaming.out, penjing("inspect", "stream.tray").out):
        assert "2x3 u8, 6 bytes" in told
        assert "5 s16, 10 bytes" in told
        assert "16 bytes of states, no end" in told
    found = penjing("inspect", "stream.tray", "--json").json()
    assert (found["stream"]["bytes"], found["stream"]["calls"]) == (16, None)
    assert found["card"]["stream"] == "2 steps a call, along axis 1"
    assert penjing("inspect", "edgecnn.tray", "--json").json()["stream"] == {}


def test_a_saved_session_goes_on_where_it_was(penjing, sequences, streaming):
    heard = np.load("heard.npy")
    np.save("first.npy", heard[:8])
    np.save("second.npy", heard[8:])
    assert penjing("run", "stream.tray", "heard.npy", "--stream", "-o", "all.npy").code == 0
    assert penjing("run", "stream.tray", "first.npy", "second.npy", "--stream", "-o", "joined.npy").code == 0
    for part in ("first", "second"):
        told = penjing("run", "stream.tray", f"{part}.npy", "--stream", "--state", "s", "-o", f"{part}.out.npy")
        assert told.code == 0
    parts = np.concatenate([np.load("first.out.npy"), np.load("second.out.npy")])
    assert np.load("all.npy").tobytes() == parts.tobytes() == np.load("joined.npy").tobytes()


def test_a_decoder_tells_its_room_and_is_not_overfilled(penjing, refused, sequences):
    told = penjing(*DECODER, "--stream", "4", "-o", "decoder.tray")
    assert f"room for {STEPS // 4} calls" in told.out, told.err
    found = penjing("run", "decoder.tray", "text.npy", "--stream", "--state", "s", "--json").json()
    assert found["stream"]["calls"] == STEPS // 4
    assert found["stream"]["calls_left"] == 0
    full = refused("run", "decoder.tray", "text.npy", "--stream", "--state", "s", error="InvalidInput")
    assert "there is room for 0 calls, and the files hold 3" in full.err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--stream", "13"), "a call of 13 steps, of sequences of 12"),
        (("--stream", "2", "--time-axis", "3"), "has no axis 3"),
        (("--time-axis", "1"), "there is no time to cut"),
        (("--stream", "2", "--evaluate", "digits"), "accuracy is measured on whole sequences"),
        (("--stream", "2", "--input-shape", "1..12x3"), "any length cannot be streamed"),
        (("--stream", "2", "--no-raw", "--mean", "0,1,2,3,4,5,6,7,8,9,10,11"), "differently at every step"),
    ],
)
def test_what_cannot_be_cut_is_refused(refused, sequences, options, told):
    assert told in refused(*GRU, *options, error="InvalidInput").err


def test_a_layer_that_reads_backwards_is_refused_with_its_place(refused, sequences):
    backwards = ("build", "frames.py:Backwards", *GRU[2:])
    told = refused(*backwards, "--stream", "1", error="UnsupportedOp").err
    assert "it begins with the last step" in told
    assert "frames.py" in told


def test_what_cannot_be_stepped_through_is_refused(penjing, refused, sequences, streaming):
    heard = np.load("heard.npy")
    np.save("odd.npy", heard[:7])
    np.save("wide.npy", np.zeros((4, 4), np.float32))
    np.save("many.npy", np.zeros((3, 4, 3), np.float32))
    np.save("none.npy", heard[:0])
    assert "leave out the last 1" in refused("run", "stream.tray", "odd.npy", "--stream", error="InvalidInput").err
    for name in ("wide", "many"):
        told = refused("run", "stream.tray", f"{name}.npy", "--stream", error="InvalidInput")
        assert "is no sequence of calls of (2, 3)" in told.err
    assert "no step" in refused("run", "stream.tray", "none.npy", "--stream", error="InvalidInput").err
    assert "only a stream" in refused("run", "stream.tray", "heard.npy", "--state", "s", error="InvalidInput").err
    assert "carries nothing" in refused("run", "edgecnn.tray", "digits.npy", "--stream", error="InvalidInput").err
    told = refused("run", "stream.tray", "heard.npy", "--stream", "--state", "heard.npy", error="InvalidInput")
    assert "heard.npy: this is no session of this model" in told.err


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_time_is_the_axis_along_which_an_array_is_longer(axis):
    shape = [2, 3, 4]
    x = np.random.default_rng(axis).normal(size=[5 * n if i == axis else n for i, n in enumerate(shape)])
    calls = calls_of(x, tuple(shape), "here")
    assert np.array_equal(np.concatenate(list(calls), axis=axis), x)
    assert np.array_equal(calls_of(x[None], tuple(shape), "here"), calls)
    assert np.array_equal(calls_of(calls, tuple(shape), "here"), calls)
    with pytest.raises(InvalidInput):
        calls_of(x.take(range(x.shape[axis] - 1), axis), tuple(shape), "here")
