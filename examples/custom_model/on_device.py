"""What runs beside the pump: numpy and penjing, no torch."""

import sys

from vibration import spectra, strangeness

import penjing

model = penjing.load("pump.tray")
threshold = float(model.tray.manifest.card["threshold"])
assert model.self_test() == 0, "this machine computes other bytes than the tray promises"
for name, worn in (("healthy", False), ("worn", True)):
    heard = spectra(1, worn=worn, seed=7)
    (value,) = strangeness(heard, model.run(heard))
    print(f"{name} pump: {'ALARM' if value > threshold else 'fine'}, {value:.3f} of {threshold:.3f}")
assert "torch" not in sys.modules
