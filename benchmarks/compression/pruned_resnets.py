"""ResNet-20 or ResNet-56 made smaller, trained and quantized: accuracy and speed against their own dense int8.

    python benchmarks/compression/pruned_resnets.py [--network resnet56] [--forms n-of-m:0.25,blocks:0.2]

1. ResNet-20 has the weights of the data folder; ResNet-56 is trained first.
2. Each form of `_forms.py` that is asked for is made of the given network.
3. It is trained to classify and to agree with the given network, zeros held; batch norms are measured anew. The dense
   network gets the same training, as a baseline (--no-baseline leaves it out).
4. All are folded, quantized (w8a8), lowered and compiled; the libraries classify all test images and race in one run.

Writes docs/results/compression/pruned_resnet20.json or pruned_resnet56.json. An epoch of one form of ResNet-20 takes 2
minutes of one core with bfloat16 products, ResNet-56 three times that. Trainings have checkpoints in PENJING_CACHE:

    --device cuda       trains on a GPU; the checkpoints serve on any machine
    --train-only        ends when all is trained: form by form on several machines or cores, then once without it
    --stop-after 1      ends after each epoch with exit status 75, so that others get a turn:
                        until python benchmarks/compression/pruned_resnets.py --stop-after 1; do :; done
"""

from _resnets import run

if __name__ == "__main__":
    run("compression/pruned_resnets", __doc__)
