"""Where a step's time goes, and what the batched step gains, as printed tables.

    python scripts/benchmark.py                # all tables
    python scripts/benchmark.py --frames 4 24  # other numbers of frames

Each row of the first table runs in a process of its own, so that its peak memory is its own. Ratios
are taken within one run; the machine should be otherwise idle.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from comparison.apart import apart, peak_megabytes, say
from hydra.utils import instantiate
from rich.console import Console
from rich.table import Table

from csd_lab.composition import composed
from csd_lab.distill import RBF, Bandwidth, particle_noise
from csd_lab.distill.guidance import NoisePredictor, Query
from csd_lab.particles import VideoParticles
from csd_lab.priors import Prior

WARM_UP = 2


class Stopwatch:
    """Adds up the seconds spent in named parts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def around(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its time added to the part ``name``."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            with self.part(name):
                return function(*args, **kwargs)

        return timed

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Add the time of the block to the part ``name``."""
        start = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start


class OneByOne:
    """A prior that evaluates every branch in a call of its own, as the official code does."""

    def __init__(self, prior: Prior) -> None:
        self.prior = prior
        self.schedule = prior.schedule

    def predict_noise(self, queries: list[Query], t: torch.Tensor) -> list[torch.Tensor]:
        """One call a particle and branch."""
        return [
            torch.cat(
                [
                    self.prior.predict_noise(
                        [Query(x[None], q.text, None if q.image is None else q.image[i : i + 1])], t
                    )[0]
                    for i, x in enumerate(q.x_t)
                ]
            )
            for q in queries
        ]


def particles(frames: int, *overrides: str) -> VideoParticles:
    """The default module on a clip of so many frames, set up."""
    config = composed(f"data.frames={frames}", *overrides)
    data, prior = instantiate(config.data), instantiate(config.prior)
    data.fit_to(prior.size_multiple)
    module = instantiate(config.modality)(
        frames=data.frames, prompt=data.task.instruction, prior=prior
    )
    module.encode_source()
    return module


def step(module: VideoParticles, prior: NoisePredictor, index: int) -> None:
    """One step of distillation and the update, without Lightning around it."""
    ids = torch.arange(len(module.latents))
    x = module.render(ids)
    t = module.timesteps(module.seed, index)
    noise = particle_noise(module.seed, index, ids, tuple(x.shape[1:]))
    out = module.distiller(prior, x, module.source(ids), module.conditioning(ids), noise, t)
    module.latents.data.sub_(out.gradient)


def measure_parts(frames: int, steps: int) -> dict[str, float]:
    """Seconds a step in all and by part, samples a particle, and peak memory in MB."""
    module = particles(frames)
    watch = Stopwatch()
    predict, evaluate = module.prior.predict_noise, module.distiller.kernel.evaluate
    module.prior.predict_noise = watch.around("network", predict)  # type: ignore[method-assign]
    module.distiller.kernel.evaluate = watch.around("kernel", evaluate)
    for index in range(WARM_UP):
        step(module, module.prior, index)
    watch.seconds.clear()
    module.prior.samples_evaluated = 0
    for index in range(steps):
        with watch.part("step"):
            step(module, module.prior, index)
    return {
        **{name: seconds / steps for name, seconds in watch.seconds.items()},
        "samples": module.prior.samples_evaluated / steps / frames,
        "memory": peak_megabytes(),
    }


def measure_kernel(particle_count: int) -> dict[str, float]:
    """Seconds and peak memory in MB of kernel and repulsion on particles of 4 x 64 x 64."""
    before = peak_megabytes()
    x = torch.randn(particle_count, 4 * 64 * 64, generator=torch.Generator().manual_seed(0))
    start = time.perf_counter()
    RBF(Bandwidth())(x)
    seconds = time.perf_counter() - start
    peak = peak_megabytes()
    return {"seconds": seconds, "memory": peak, "beyond_start": peak - before}


VARIANTS: dict[str, list[str]] = {
    "one sample a call, float32": ["prior.dtype=float32"],
    "batched, float32": ["prior.dtype=float32"],
    "batched, bfloat16": ["prior.dtype=bfloat16"],
    "batched, default": [],
    "batched, channels last": ["prior.channels_last=true"],
    "batched, compiled": ["prior.compile=true"],
}


def measure_variants(frames: int, rounds: int) -> dict[str, float]:
    """Median seconds a step of each variant, measured in turns."""
    built: dict[str, tuple[VideoParticles, Any]] = {}
    for name, overrides in VARIANTS.items():
        module = particles(frames, *overrides)
        built[name] = (module, OneByOne(module.prior) if "one sample" in name else module.prior)
    seconds: dict[str, list[float]] = {name: [] for name in built}
    for index in range(WARM_UP + rounds):
        for name, (module, prior) in built.items():
            start = time.perf_counter()
            step(module, prior, index)
            if index >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    return {name: sorted(values)[len(values) // 2] for name, values in seconds.items()}


def table_of_parts(frames: list[int], steps: int) -> Table:
    """Time by part for several numbers of frames."""
    table = Table(
        "frames",
        "ms a step",
        "particles/s",
        "network",
        "kernel",
        "rest",
        "samples",
        "peak MB",
        title="A step by parts (samples: network samples a particle and step)",
    )
    for count in frames:
        row = apart(__file__, "measure_parts", count, steps)
        whole, network, kernel = row["step"], row["network"], row["kernel"]
        table.add_row(
            str(count),
            f"{1000 * whole:.0f}",
            f"{count / whole:.1f}",
            f"{network / whole:.1%}",
            f"{kernel / whole:.1%}",
            f"{1 - (network + kernel) / whole:.1%}",
            f"{row['samples']:.2f}",
            f"{row['memory']:.0f}",
        )
    return table


def table_of_kernel(counts: list[int]) -> Table:
    """Kernel and repulsion for many large particles."""
    table = Table(
        "particles",
        "ms",
        "peak MB",
        "beyond start MB",
        title="Kernel and repulsion, particles of 4 x 64 x 64",
    )
    for count in counts:
        row = apart(__file__, "measure_kernel", count)
        table.add_row(
            str(count),
            f"{1000 * row['seconds']:.0f}",
            f"{row['memory']:.0f}",
            f"{row['beyond_start']:.0f}",
        )
    return table


def table_of_variants(frames: int, rounds: int) -> Table:
    """The same step done in other ways."""
    seconds = apart(__file__, "measure_variants", frames, rounds)
    plain = next(iter(seconds.values()))
    table = Table("variant", "ms a step", "speed-up", title=f"The same step, {frames} frames")
    for name, value in seconds.items():
        table.add_row(name, f"{1000 * value:.0f}", f"{plain / value:.2f}x")
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--frames", type=int, nargs="+", default=[4, 12, 24, 96])
    parser.add_argument("--steps", type=int, default=5, help="measured steps a row")
    parser.add_argument("--only", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        name, *numbers = options.only
        say(globals()[name](*map(int, numbers)))
        return
    console = Console()
    console.print(table_of_parts(options.frames, options.steps))
    console.print(table_of_kernel([128, 1024]))
    console.print(table_of_variants(8, 2 * options.steps))


if __name__ == "__main__":
    main()
