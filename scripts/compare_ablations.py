"""Compares CSD-Edit on clips of the world with what it is when one part of it is another.

    python scripts/compare_ablations.py                        # 20 held-out clips
    python scripts/compare_ablations.py --first 1000 --scenes 3 --one 2 --many 2   # for tuning
    python scripts/compare_ablations.py --methods csd_edit repulsion_0 shared_noise

Every finished cell is a line of a file, as in compare_video.py; --help lists the rest. Variants
that are chosen by this must be chosen on other clips than show their gain: from --first 1000 on.
"""

from comparison.command import arguments, compare
from comparison.subjects import clips

UNIFORM = "method.timesteps.final=981"
VARIANTS = {
    "csd_edit": (),
    "kernel_identity": ("kernel=identity",),
    "kernel_mean": ("kernel=mean",),
    "kernel_imq": ("kernel=imq",),
    "bandwidth_1": ("kernel=rbf_paper",),
    "bandwidth_4": ("kernel.bandwidth.scale=4.0",),
    "bandwidth_official": ("kernel.bandwidth.rule=official", "kernel.bandwidth.scale=1.0"),
    "kernel_clean": ("method.distiller.kernel_space=clean",),
    "repulsion_0": ("method.distiller.repulsion=0.0",),
    "repulsion_sigma": ("method.distiller.repulsion_scale=sigma",),
    "normalize_n": ("method.distiller.normalize=n",),
    "shared_noise": ("method.noise=shared",),
    "against_noise": ("method=csd",),
    "uniform_t": (UNIFORM,),
    "uniform_t_to_500": ("method.timesteps.high=501", "method.timesteps.final=501"),
    "adam": ("optimizer=adam",),
    "momentum": ("optimizer.optimizer.lr=0.4", "+optimizer.optimizer.momentum=0.8"),
    "steps_30": ("trainer.max_steps=30",),
    "steps_30_lr_3": ("trainer.max_steps=30", "optimizer.optimizer.lr=3.0"),
}
"""Config overrides by the names that variants have in the table."""


def main() -> None:
    parser = arguments(__doc__, "outputs/compare_ablations.jsonl", seeds=1, one=1, many=1)
    parser.add_argument("--frames", type=int, default=8)
    options = parser.parse_args()
    compare(clips(options.frames, VARIANTS), options)


if __name__ == "__main__":
    main()
