"""The way that a method takes to a scene: through its images, or straight through its cameras."""

from typing import Literal, Unpack, get_args

from csd_lab.distill import Distiller, Sampler
from csd_lab.particles.base import OptimizerFactory
from csd_lab.particles.dataset_update import DatasetUpdate, UpdatePlan
from csd_lab.particles.scene import SceneModule, SceneOptions, SceneParticles

Route = Literal["images", "renderer"]


def scene_module(
    route: Route,
    updates: UpdatePlan,
    scene_optimizer: OptimizerFactory,
    **options: Unpack[SceneOptions],
) -> SceneModule:
    """The module of a scene.

    Args:
        route: ``images``: a method edits what the scene is fitted to (:class:`DatasetUpdate`);
            ``renderer``: its gradients move the scene itself (:class:`SceneParticles`).
        updates: of the first way.
        scene_optimizer: of the second way, in the place of the optimiser of latents.
        **options: see :class:`SceneModule`.

    Raises:
        ValueError: there is no such way.
    """
    check_route(route)
    if route == "images":
        return DatasetUpdate(updates, **options)
    moved: SceneOptions = {**options, "optimizer": scene_optimizer, "scheduler": None}
    return SceneParticles(**moved)


scene_module.takes = SceneModule.takes  # type: ignore[attr-defined]  # as of a modality's class


def check_moves_scenes(distiller: Distiller) -> None:
    """Raises ValueError for a method that samples: it has no gradient to move a scene by."""
    if isinstance(distiller, Sampler):
        raise ValueError(
            f"modality.route must be images for {type(distiller).__name__}, which samples, got "
            "renderer"
        )


def check_route(route: str) -> None:
    """Raises ValueError unless there is such a way."""
    if route not in get_args(Route):
        raise ValueError(f"route must be {' or '.join(get_args(Route))}, got {route!r}")
