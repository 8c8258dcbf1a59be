"""The founding document's sketches, run as it prints them: every claim of docs/seed.md about them.

The sketches are kept here as text and executed, so that what is judged is what was written.
"""

import io
import re
import zipfile
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from penjing.compress.prune.magnitude import ratio_mask, sparsity, threshold_mask
from penjing.compress.quantize.affine_map import AffineMap, mean_centred, min_max, symmetric_per_channel

torch = pytest.importorskip("torch")

SEED_PAGE = Path(__file__).resolve().parents[2] / "docs" / "seed.md"

EDGE_CNN = """
import torch
import torch.nn as nn
import torch.optim as optim

class EdgeCNN(nn.Module):
    def __init__(self):
        super(EdgeCNN, self).__init__()
        self.conv1 = nn.Conv2d(1, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.pool = nn.MaxPool2d(2, 2)
        self.fc1 = nn.Linear(32 * 8 * 8, 128)
        self.fc2 = nn.Linear(128, 10)

    def forward(self, x):
        x = self.pool(F.relu(self.conv1(x)))
        x = self.pool(F.relu(self.conv2(x)))
        x = x.view(-1, 32 * 8 * 8)
        x = F.relu(self.fc1(x))
        x = self.fc2(x)
        return x
"""

QUANTIZE = """
def quantize(model, S, B, M):
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) or isinstance(module, nn.Linear):
            with torch.no_grad():
                weight = module.weight.data
                bias = module.bias.data
                quantized_weight = torch.clamp((weight * S + B) // M, 0, M - 1)
                quantized_bias = torch.clamp(bias // M, 0, M - 1)
                module.weight.data = quantized_weight
                if bias is not None:
                    module.bias.data = quantized_bias
"""

PRUNE = """
def prune(model, threshold):
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) or isinstance(module, nn.Linear):
            with torch.no_grad():
                weight = module.weight.data
                abs_weight = torch.abs(weight)
                pruned_weight = torch.clamp(abs_weight < threshold, 0, 0)
                module.weight.data = pruned_weight
"""

S, B, M = 32, 0, 256  # the seed document's constants
THRESHOLD = 0.01


def seed_document(*, with_import: bool) -> SimpleNamespace:
    names: dict[str, object] = {}
    exec(EDGE_CNN + QUANTIZE + PRUNE, names)
    if with_import:
        exec("import torch.nn.functional as F", names)
    return SimpleNamespace(**names)


@pytest.fixture
def seed():
    torch.manual_seed(0)
    return seed_document(with_import=True)


def layers(model):
    return {name: getattr(model, name) for name in ("conv1", "conv2", "fc1", "fc2")}


def weights(model):
    return {name: layer.weight.detach().numpy() for name, layer in layers(model).items()}


def saved_bytes(model):
    stream = io.BytesIO()
    torch.save(model.state_dict(), stream)
    return len(stream.getvalue())


# --- EdgeCNN -------------------------------------------------------------------------------------------------------


def test_without_its_import_the_network_does_not_run():
    model = seed_document(with_import=False).EdgeCNN()
    with pytest.raises(NameError, match="'F'"):
        model(torch.zeros(1, 1, 32, 32))


def test_with_the_import_it_classifies_32x32_images(seed):
    assert seed.EdgeCNN()(torch.zeros(3, 1, 32, 32)).shape == (3, 10)


def test_view_turns_64_images_of_28x28_into_49_rows_without_an_error(seed):
    # 64 * 32 * 7 * 7 numbers happen to be 49 * 2048: the rows hold pieces of different images.
    assert seed.EdgeCNN()(torch.zeros(64, 1, 28, 28)).shape == (49, 10)
    with pytest.raises(RuntimeError, match="invalid for input"):
        seed.EdgeCNN()(torch.zeros(63, 1, 28, 28))


# --- quantize() ----------------------------------------------------------------------------------------------------


def test_the_sketch_of_quantize_sets_every_weight_and_bias_to_zero(seed):
    model = seed.EdgeCNN()
    assert max(np.abs(w).max() for w in weights(model).values()) < M / S  # floor division by M then gives 0 or -1
    seed.quantize(model, S, B, M)
    for layer in layers(model).values():
        assert not layer.weight.any()
        assert not layer.bias.any()
    images = torch.randn(5, 1, 32, 32)
    assert not model(images).any()


def test_floor_division_by_m_is_not_the_remainder_of_the_formula():
    w = np.array([-0.5, 0.5, 2.0])
    assert np.clip((w * S + B) // M, 0, M - 1).tolist() == [0, 0, 0]
    assert [int(np.floor(x * S + B) % M) for x in w] == [240, 16, 64]
    assert AffineMap(S, B, M, "wrap").quantize(w).tolist() == [240, 16, 64]


def test_the_sketch_of_quantize_fails_on_a_layer_without_bias(seed):
    model = torch.nn.Sequential(torch.nn.Linear(4, 4, bias=False))
    with pytest.raises(AttributeError, match="data"):
        seed.quantize(model, S, B, M)


def test_the_sketch_of_quantize_saves_no_byte(seed):
    model = seed.EdgeCNN()
    before = saved_bytes(model)
    seed.quantize(model, S, B, M)
    assert model.fc1.weight.dtype == torch.float32
    assert saved_bytes(model) == before


def test_even_by_the_formula_one_s_for_all_layers_leaves_fc1_two_values(seed):
    fc1 = weights(seed.EdgeCNN())["fc1"]
    codes = AffineMap(S, B, M, "wrap").quantize(fc1)
    assert sorted(np.unique(codes)) == [0, 255]
    assert AffineMap(S, B + 0.5, M, "wrap").error(fc1).sqnr_db < 1  # rounding to nearest: all zeros


def test_floor_without_the_half_pulls_every_weight_down_by_half_a_step_on_average():
    w = np.random.default_rng(0).uniform(-1, 1, 100_000)
    assert np.mean(np.floor(w * S) / S - w) == pytest.approx(-0.5 / S, rel=0.02)
    assert abs(np.mean(np.floor(w * S + 0.5) / S - w)) < 0.01 / S


def test_our_quantizers_keep_edgecnn_above_38_db_in_every_layer(seed):
    for w in weights(seed.EdgeCNN()).values():
        codes, scales = symmetric_per_channel(w)
        shape = (-1,) + (1,) * (w.ndim - 1)
        noise = codes * scales.reshape(shape) - w
        assert codes.nbytes * 4 == w.nbytes
        assert 10 * np.log10(np.square(w).sum() / np.square(noise).sum()) > 38
        assert min_max(w, M).error(w).sqnr_db > 38
        assert mean_centred(w, M).error(w).sqnr_db > 38


# --- prune() -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("threshold", [0.0, THRESHOLD, 1e9])
def test_clamping_between_0_and_0_leaves_nothing_whatever_the_threshold(seed, threshold):
    assert not torch.clamp(seed.EdgeCNN().fc1.weight.abs() < threshold, 0, 0).any()


def test_the_sketch_of_prune_stops_at_the_first_layer(seed):
    # What the comparison gives are not floats, and torch refuses them as the data of a parameter under training.
    with pytest.raises(RuntimeError, match="floating point"):
        seed.prune(seed.EdgeCNN(), THRESHOLD)


def test_without_the_clamp_its_mask_marks_what_to_remove_as_one():
    w = torch.tensor([0.001, 0.5])
    assert (w.abs() < THRESHOLD).float().tolist() == [1, 0]
    assert np.where(threshold_mask(w.numpy(), THRESHOLD), w.numpy(), 0).tolist() == [0, 0.5]


def test_one_threshold_for_all_layers_cuts_fc1_by_half_and_spares_conv1(seed):
    w = weights(seed.EdgeCNN())
    pruned = {name: 1 - threshold_mask(array, THRESHOLD).mean() for name, array in w.items()}
    assert pruned["conv1"] < 0.1
    assert 0.4 < pruned["fc1"] < 0.5
    assert 1 - ratio_mask(w["conv1"], 0.5).mean() == 0.5


def test_plain_sgd_brings_pruned_weights_back(seed):
    model = seed.EdgeCNN()
    with torch.no_grad():
        keep = threshold_mask(weights(model)["fc2"], 0.05)
        model.fc2.weight *= torch.from_numpy(keep)
    before = sparsity(weights(model)["fc2"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.nn.functional.cross_entropy(model(torch.randn(8, 1, 32, 32)), torch.arange(8)).backward()
    optimizer.step()
    assert before > 0.4
    assert sparsity(weights(model)["fc2"]) < before / 2


def test_zeros_saved_as_floats_save_no_byte(seed):
    model = seed.EdgeCNN()
    before = saved_bytes(model)
    with torch.no_grad():
        model.fc1.weight.zero_()
    assert saved_bytes(model) == before


# --- training ------------------------------------------------------------------------------------------------------


def test_training_after_rounding_forgets_the_rounding(seed):
    model = seed.EdgeCNN()
    w = weights(model)["fc2"]
    amap = AffineMap.from_parameters(float(np.abs(w).max()) / 127, 128)
    with torch.no_grad():
        model.fc2.weight.copy_(torch.from_numpy(amap.dequantize(amap.quantize(w))))
    assert amap.error(weights(model)["fc2"]).max_abs < 1e-7
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    torch.nn.functional.cross_entropy(model(torch.randn(8, 1, 32, 32)), torch.arange(8)).backward()
    optimizer.step()
    assert amap.error(weights(model)["fc2"]).max_abs > 1e-5


# --- deployment ----------------------------------------------------------------------------------------------------


def test_the_saved_file_holds_a_pickle(seed):
    stream = io.BytesIO()
    torch.save(seed.EdgeCNN().state_dict(), stream)
    assert any(name.endswith("data.pkl") for name in zipfile.ZipFile(stream).namelist())


# --- the page ------------------------------------------------------------------------------------------------------


def test_every_check_that_the_page_names_exists():
    named = set(re.findall(r"`(test_\w+)`", SEED_PAGE.read_text(encoding="utf-8")))
    here = {name for name in globals() if name.startswith("test_")}
    assert named, "docs/seed.md names no check"
    assert named <= here
