"""Reconstructions of scenes of the world, made once and taken by all methods that edit them."""

from pathlib import Path

from hydra.utils import instantiate

from csd_lab.callbacks import LastCheckpoint
from csd_lab.composition import composed
from csd_lab.run_folder import RunFolder

from .bench import quiet_trainer


def reconstructed(seed: int, folder: Path) -> Path:
    """The run folder of a scene's reconstruction, by the settings of ``experiment=reconstruct``.

    Args:
        seed: of the scene.
        folder: of all reconstructions.
    """
    run = RunFolder(folder / str(seed))
    if not run.checkpoint.is_file():
        config = composed("experiment=reconstruct", f"data.scene_seed={seed}")
        data = instantiate(config.data)
        module = instantiate(config.modality)(**data.inputs)
        steps = config.trainer.max_steps
        last = LastCheckpoint(every=steps)
        quiet_trainer(steps, default_root_dir=run.root, callbacks=[last]).fit(module, data)
    return run.root
