"""Trains the embedded prior and the tiny CLIP on the procedural world, and exports them.

    python scripts/train_prior.py                   # all stages; just under two hours on two cores
    python scripts/train_prior.py stage=instruct    # one stage, from its checkpoint on
    python scripts/train_prior.py stage=instruct stages.instruct.budget.minutes=120  # for longer
    for stage in data instruct export; do           # more of it, from the networks that ship
        python scripts/train_prior.py stage=$stage init=exported folder=outputs/more
    done

Stages: data, autoencoder, clip, text_to_image, instruct, export. Every stage goes on from its
latest checkpoint, also after a kill; a stage that has spent its budget ends at once.
"""

import os
from pathlib import Path

import hydra
import torch
from omegaconf import DictConfig, OmegaConf
from prior_training.cache import Recipe
from prior_training.fit import FitOptions
from prior_training.run import STAGES, Plan, Run
from prior_training.stages import Budget


def plan_from(config: DictConfig) -> Plan:
    """Return the plan that a configuration describes."""
    values = OmegaConf.to_container(config, resolve=True)
    stages = values["stages"]
    return Plan(
        options=FitOptions(folder=Path(values["folder"]), **values["fit"]),
        assets=Path(values["assets"]),
        recipe=Recipe(**values["recipe"]),
        shards=values["shards"],
        workers=values["workers"],
        seed=values["seed"],
        text_length=values["text_length"],
        budgets={
            name: Budget(**{k: tuple(v) if k == "betas" else v for k, v in stage["budget"].items()})
            for name, stage in stages.items()
        },
        batches={name: stage["batch"] for name, stage in stages.items()},
        init=values["init"],
    )


@hydra.main(version_base="1.3", config_path="../configs", config_name="train_prior")
def main(config: DictConfig) -> None:
    """Carry out the stages that the configuration asks for."""
    torch.set_num_threads(config.threads)
    run = Run(plan_from(config))
    for stage in STAGES if config.stage == "all" else (config.stage,):
        run.stage(stage)


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    main()
