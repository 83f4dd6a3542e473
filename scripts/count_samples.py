"""How many network samples a step of region prompts takes, next to the official code.

    python scripts/count_samples.py

The official geometry, scaled to the embedded prior: 12 windows at a quarter of their size, over
strips with a prompt each. The official code evaluates every window for every prompt, target and
source, with three branches each: 6 P a window. Here a prompt is evaluated in windows that it has a
share of, the source once for all of them, and equal branches are one. The count is the prior's own.
"""

import torch
from rich.console import Console
from rich.table import Table

from csd_lab.canvas import PromptedRegion, Strip
from csd_lab.distill import (
    RBF,
    Bandwidth,
    CollaborativeScoreDistillation,
    DualGuidance,
    SigmaSquared,
    SourceResidual,
    UniformTimesteps,
)
from csd_lab.particles import CanvasParticles
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix

PROMPTS = ("make it night", "make it sepia", "make the sky orange", "make it winter")
HEIGHT, WIDTH = 64, 240  # pixels


def samples(prior: InstructPix2Pix, regions: tuple[PromptedRegion, ...]) -> tuple[int, int]:
    """Windows, and network samples of a step on all of them."""
    distiller = CollaborativeScoreDistillation(
        SourceResidual(DualGuidance(7.5, 5.0)), RBF(Bandwidth()), SigmaSquared()
    )
    module = CanvasParticles(
        torch.rand(1, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)),
        PROMPTS[0] if not regions else "",
        regions=regions,
        prior=prior,
        distiller=distiller,
        timesteps=UniformTimesteps(20, 501),
        optimizer=torch.optim.SGD,
    )
    module.encode_source()
    ids = torch.arange(len(module.grid))
    x, before = module.render(ids), prior.samples_evaluated
    noise, t = torch.zeros_like(x), torch.tensor(300)
    distiller.residual(prior, x, module.source(ids), module.conditioning(ids), noise, t)
    return len(ids), prior.samples_evaluated - before


def main() -> None:
    prior = InstructPix2Pix(device="cpu")
    table = Table("prompts", "windows", "official", "here", "share", title="Network samples a step")
    for count in range(1, len(PROMPTS) + 1):
        regions = tuple(PromptedRegion(PROMPTS[k], Strip(k, count)) for k in range(count))
        windows, here = samples(prior, regions if count > 1 else ())
        official = 6 * count * windows
        table.add_row(*map(str, (count, windows, official, here)), f"{here / official:.0%}")
    Console().print(table)


if __name__ == "__main__":
    main()
