"""Compares video edits on held-out clips of the world, paired, with 95 % intervals.

    python scripts/compare_video.py                  # all cells that are not in the file yet
    python scripts/compare_video.py --scenes 4 --seeds 1 --methods csd_edit identity
    python scripts/compare_video.py --first 10 --scenes 10 --file half.jsonl   # a share of the work
    python scripts/compare_video.py --table-only

Methods, all with the same prior and metrics; distillations with the default guidance, sampling with
the guidance that suits it better (--sampling-guidance):

    csd_edit     CSD-Edit as configured by default
    identity     the same distillation with the identity kernel, at the same step size
    ip2p         Instruct-Pix2Pix sampling of every frame, independent noise
    ip2p_shared  the same with one noise for all frames

Every finished cell (method, clip, instruction, seed) is a line of a file, so that the script can be
stopped at any time and goes on where it was; files of several shares can be joined. Defaults were
chosen on other clips than the table shows: those from --first 1000 on.
"""

import argparse
from pathlib import Path

from comparison.bench import Bench
from comparison.cells import Cell, Plan, fill
from comparison.tables import show

from csd_lab import world
from csd_lab.data import WorldClip
from csd_lab.launch import quiet_libraries

DISTILLED = {
    "csd_edit": [],
    "identity": ["kernel=identity", "method.distiller.normalize=row"],
}
SAMPLED = {"ip2p": "independent", "ip2p_shared": "shared"}
METRICS = {
    "clip_direction_tiny": True,
    "psnr_target": True,
    "error_spread": False,
    "lpips_consecutive_tiny": False,
    "agreement": True,
    "psnr_answer": True,
    "colour_spread": False,
    "saturation": True,
    "seconds": False,
    "samples": False,
}
"""Each with whether higher is better."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--first", type=int, default=0, help="number of the first clip")
    parser.add_argument("--scenes", type=int, default=20, help="clips")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--sampling-steps", type=int, default=20)
    parser.add_argument("--sampling-guidance", type=float, nargs=2, default=(3.0, 1.5))
    parser.add_argument("--methods", nargs="+", default=[*DISTILLED, *SAMPLED])
    parser.add_argument("--file", type=Path, default=Path("outputs/compare_video.jsonl"))
    parser.add_argument("--table-only", action="store_true", help="show what is in the file")
    parser.add_argument("overrides", nargs="*", help="config overrides for all methods")
    options = parser.parse_args()
    quiet_libraries()
    plan = Plan(
        options.first,
        options.scenes,
        options.seeds,
        options.methods,
        lambda seed: world.edits_for(world.sample_scene(seed)),
    )

    def prepare():
        bench = Bench(
            DISTILLED,
            SAMPLED,
            lambda sampler, data, prompt: sampler(data.frames, prompt),
            options.sampling_steps,
            tuple(options.sampling_guidance),
            options.overrides,
        )

        def do(cell: Cell) -> dict[str, float]:
            data = WorldClip(cell.scene, cell.instruction, frames=options.frames)
            return bench.run(cell.method, cell.seed, data)

        return do

    if not options.table_only:
        fill(options.file, plan, prepare)
    show(options.file, plan, METRICS)


if __name__ == "__main__":
    main()
