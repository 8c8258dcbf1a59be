"""What 8 bits cost: float network (torch) against the compiled library, on whole test sets, image by image.

Writes docs/results/accuracy.json and prints a table. Needs PENJING_DATA with MNIST, CIFAR-10 (JPEG) and the trained
ResNet-20; takes some three minutes on two cores.
"""

from typing import Any

import torch

from _record import arguments, load_average, table, write_record
from _subjects import CALIBRATION_SAMPLES, Subject, library_model, subjects
from penjing.measure.intervals import accuracy_interval, paired_drop

NOTES = (
    f"w8a8 without training: {CALIBRATION_SAMPLES} calibration images of the training part (seed 0), mse ranges",
    "the drop is paired: both networks see the same images; its interval is Newcombe's, p is McNemar's, exact",
    "CIFAR-10 (JPEG) is CIFAR-10 re-encoded with loss: its figures lie some points under the literature's",
)


def main() -> None:
    """Measure, print, write."""
    options = arguments("accuracy", __doc__)
    load = load_average()
    results = [measured(subject) for subject in subjects()]
    rows = [
        (
            f"{r['network']} on {r['dataset']}",
            str(r["n"]),
            f"{100 * r['float']['accuracy']:.2f} %",
            f"{100 * r['int8']['accuracy']:.2f} % ({100 * r['int8']['low']:.2f} .. {100 * r['int8']['high']:.2f})",
            f"{100 * r['drop']['value']:+.2f} ({100 * r['drop']['low']:+.2f} .. {100 * r['drop']['high']:+.2f})",
            f"{r['drop']['p_value']:.2f}",
        )
        for r in results
    ]
    print(table(("network", "test images", "float", "int8 (95 % interval)", "drop in points (95 %)", "p"), rows))
    write_record(options.output, "accuracy", results, NOTES, load)


def measured(subject: Subject) -> dict[str, Any]:
    """Accuracies and their paired difference on the whole test set."""
    n = len(subject.dataset.test_y)
    print(f"measuring {subject.title} on {n} images", flush=True)
    with torch.inference_mode():
        before = subject.right(lambda x: subject.module(torch.from_numpy(x)).numpy(), n)
    model = library_model(subject.tray())
    after = subject.right(model.run, n)
    drop = paired_drop(before, after)
    return {
        "network": subject.title,
        "weights": subject.origin,
        "dataset": subject.dataset.name,
        "n": n,
        "engine": model.engine.name,
        "float": _interval(int(before.sum()), n),
        "int8": _interval(int(after.sum()), n),
        "drop": {"value": drop.drop, "low": drop.low, "high": drop.high, "p_value": drop.p_value},
        "images": {
            "only_float_right": int((before & ~after).sum()),
            "only_int8_right": int((~before & after).sum()),
        },
    }


def _interval(right: int, n: int) -> dict[str, float]:
    interval = accuracy_interval(right, n)
    return {"accuracy": interval.value, "low": interval.low, "high": interval.high}


if __name__ == "__main__":
    main()
