"""ResNet-20 with half of its multiply-accumulates gone from the shapes: accuracy and speed against its dense int8.

Of the given network, the residual block goes that does least (`RemoveBlocks`), then channels in one shot until a share
of multiply-accumulates is left, those first that the rest of a layer's inputs can replace; layers that lose inputs are
refitted (`PruneChannels`). Then it is trained to classify and to agree with the given network, and measured as a
compiled library.

The dense network gets the same training, as a baseline (--no-baseline leaves it out). An interrupted run goes on from
its checkpoint in PENJING_CACHE; --stop-after 1 ends after each epoch with exit status 75, so that others get a turn:

    until python benchmarks/compression/resnet20_channels.py --stop-after 1; do :; done

Writes docs/results/compression/resnet20_channels.json. An epoch takes 2 minutes of one core with bfloat16 products.
"""

import argparse

from _resnet20 import Smaller, Work, run

from penjing.compress.layer_inputs import collect_layer_inputs
from penjing.compress.prune.channel_plan import total_macs
from penjing.compress.prune.prune_channels import PruneChannels
from penjing.compress.structure.remove_blocks import RemoveBlocks
from penjing.compress.structure.residual_blocks import block_effects
from penjing.ir.passes import run_passes
from penjing.train.batch_norm import reestimate_batch_norm


def options(found: argparse.ArgumentParser) -> None:
    """What this script adds."""
    found.add_argument("--blocks", type=int, default=1, help="residual blocks that go")
    found.add_argument("--macs", type=float, default=0.44, help="share of multiply-accumulates that may be left")
    found.add_argument("--round-to", type=int, default=8, help="channels are kept in multiples of this")


def pruned(work: Work) -> Smaller:
    """The given network without what costs most and matters least, its batch norms measured anew after each step."""
    asked, batches = work.options, work.calibration()
    effects = block_effects(work.given, batches)
    fewer, (blocks,) = run_passes(work.given, [RemoveBlocks(effects, asked.blocks)])
    fewer = reestimate_batch_norm(fewer, batches)
    share = asked.macs * total_macs(work.given) / total_macs(fewer)
    prune = PruneChannels(macs=min(share, 1.0), round_to=asked.round_to, inputs=collect_layer_inputs(fewer, batches))
    small, (channels,) = run_passes(fewer, [prune])
    for remark in (*blocks.changed, *channels.changed):
        print(f"{remark.where}: {remark.text}")
    small = reestimate_batch_norm(small, batches)
    given = work.given.constants
    shapes = {
        name: {"given": given[name].array.shape, "pruned": constant.array.shape}
        for name, constant in small.constants.items()
        if constant.array.ndim > 1
    }
    facts = {"blocks": asked.blocks, "macs": asked.macs, "round_to": asked.round_to, "shapes": shapes}
    return Smaller(small, f"channels-{asked.blocks}-{asked.macs}-{asked.round_to}", facts)


if __name__ == "__main__":
    run("compression/resnet20_channels", __doc__, options, pruned)
