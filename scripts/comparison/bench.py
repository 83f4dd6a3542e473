"""The networks, built once, and edits by them as `csd-lab` would make them."""

import time
from collections.abc import Callable, Mapping, Sequence

import pytorch_lightning as pl
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import DictConfig
from torch import Tensor

from csd_lab.baselines.instruct_pix2pix import InstructPix2PixSampler
from csd_lab.cli import config_folder
from csd_lab.data import EditData
from csd_lab.distill import DualGuidance
from csd_lab.launch import particles_of, prompt_for
from csd_lab.metrics import MetricSuite
from csd_lab.priors import Prior
from csd_lab.types import Artefact

Sample = Callable[[InstructPix2PixSampler, EditData, str], Tensor]
"""Makes an edit of the frames of a task, (F, 3, h, w), by sampling with a prompt."""


def composed(*overrides: str) -> DictConfig:
    """The default config with these overrides."""
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        return compose("run", overrides=list(overrides))


class Bench:
    """Does cells.

    Args:
        distilled: config overrides of the methods that distil, by name.
        sampled: noise mode of the methods that sample, by name.
        sample: how these edit.
        sampling_steps: DDIM steps of the sampled methods.
        sampling_guidance: their scales, text and image.
        overrides: config overrides for all methods.
    """

    def __init__(
        self,
        distilled: Mapping[str, Sequence[str]],
        sampled: Mapping[str, str],
        sample: Sample,
        sampling_steps: int,
        sampling_guidance: tuple[float, float],
        overrides: Sequence[str],
    ) -> None:
        self.sampled = sampled
        self.sample = sample
        self.steps = sampling_steps
        self.guidance = DualGuidance(*sampling_guidance)
        self.configs = {name: composed(*overrides, *own) for name, own in distilled.items()}
        base = composed(*overrides)
        self.prior: Prior = instantiate(base.prior)
        self.suite: MetricSuite = instantiate(base.metrics)

    def run(self, method: str, seed: int, data: EditData) -> dict[str, float]:
        """All metrics of one edit of a task, with its seconds and network samples."""
        data.fit_to(self.prior.size_multiple)
        before, start = self.prior.samples_evaluated, time.perf_counter()
        edit = self._distil if method in self.configs else self._sample
        edited = edit(method, seed, data)
        cost = {
            "seconds": time.perf_counter() - start,
            "samples": float(self.prior.samples_evaluated - before),
        }
        task = data.task._replace(windows=data.windows)
        return self.suite.evaluate(Artefact(data.restore(edited), task)) | cost

    def _distil(self, method: str, seed: int, data: EditData) -> Tensor:
        config = self.configs[method].copy()
        config.seed = seed
        module = particles_of(config, data, self.prior, instantiate(config.modality))
        trainer = pl.Trainer(
            max_steps=config.trainer.max_steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(module, data)
        edited: Tensor = module.export()
        return edited

    def _sample(self, method: str, seed: int, data: EditData) -> Tensor:
        sampler = InstructPix2PixSampler(
            self.prior,
            self.guidance,
            steps=self.steps,
            noise=self.sampled[method],  # type: ignore[arg-type]
            seed=seed,
        )
        return self.sample(sampler, data, prompt_for(self.prior, data.task))
