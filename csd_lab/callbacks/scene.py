"""What a user takes home of a scene: videos of a flight through it, its points, its surface."""

import logging
import sys
from typing import final

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console
from rich.progress import track

from csd_lab.checks import check_not_negative, check_positive, check_share, is_whole
from csd_lab.data import write_mesh, write_points, write_video
from csd_lab.fields import Cameras, FieldScene, GridField, Scene, View, camera_path, points_seen
from csd_lab.fields.surface import surface
from csd_lab.particles import OfScene
from csd_lab.report import DepthClip, colour_depths, side_by_side
from csd_lab.run_folder import RunFolder

log = logging.getLogger(__name__)

CANDIDATES = 8
"""Pixels that are looked at for each of the points that are wanted at most."""


@final
class WriteScene(pl.Callback):
    """Writes a scene's videos along a closed path of cameras, a cloud of points and a mesh.

    The videos are of colours and of depths, of the source beside the edited scene; points and mesh
    are of the edited one. Runs without a scene are left alone.

    Args:
        frames: along the path, >= 1; None: no videos.
        fps: at which they are played, > 0.
        points: at most, >= 1; None: no cloud.
        agree: other cameras that must agree on a point, >= 0; 0 gives points where views are few.
        mesh: nodes along each side of the grid in which the surface is found, >= 2; it spans the
            cube that the scene has in full detail; None: no mesh.
        crumb: pieces of the mesh with less volume than a cube of this side are left out; a share
            of the side of the grid, in [0, 1].

    Raises:
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        frames: int | None = 48,
        fps: float = 12.0,
        points: int | None = 100_000,
        agree: int = 2,
        mesh: int | None = 128,
        crumb: float = 0.04,
    ) -> None:
        for name, value, least in (("frames", frames, 1), ("points", points, 1), ("mesh", mesh, 2)):
            if value is not None and not is_whole(value, least):
                raise ValueError(
                    f"{name} must be at least {least}, or null for none, got {value!r}."
                )
        check_positive("fps", fps)
        check_not_negative("agree", agree)
        check_share("crumb", crumb)
        self.frames = frames
        self.fps = fps
        self.points = points
        self.agree = agree
        self.mesh = mesh
        self.crumb = crumb

    @rank_zero_only
    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Write the files, in place of those that a former part of the run has left."""
        if not isinstance(pl_module, OfScene):
            return
        folder = RunFolder(trainer.default_root_dir)
        for path in folder.of_scene:
            path.unlink(missing_ok=True)
        self._write_videos(folder, pl_module)
        self._write_points(folder, pl_module)
        self._write_mesh(folder, pl_module)

    def _write_videos(self, folder: RunFolder, module: OfScene) -> None:
        if self.frames is None:
            return
        path = camera_path(module.around, self.frames)
        flights = {label: _flight(scene, path, label) for label, scene in module.scenes.items()}
        colours = {label: torch.stack([v.colour for v in f]) for label, f in flights.items()}
        write_video(folder.path, side_by_side(colours), self.fps)
        depths = {
            label: DepthClip(
                torch.stack([view.depth for view in flight]),
                torch.stack([view.opacity for view in flight]),
            )
            for label, flight in flights.items()
        }
        write_video(folder.depth, side_by_side(colour_depths(depths)), self.fps)

    def _write_points(self, folder: RunFolder, module: OfScene) -> None:
        if self.points is None:
            return
        cameras = module.around.within(CANDIDATES * self.points)
        points = points_seen(module.result, cameras, self.points, self.agree)
        if not len(points.places):
            log.info("no points: no %d other views agree on anything opaque", self.agree)
            return
        write_points(folder.points, points)
        log.info("%s: %d points", folder.points.name, len(points.places))

    def _write_mesh(self, folder: RunFolder, module: OfScene) -> None:
        if self.mesh is None:
            return
        scene = module.result
        if not isinstance(scene, FieldScene) or not isinstance(scene.field, GridField):
            log.info("no mesh: %s has no density to find a surface of", type(scene).__name__)
            return
        field = scene.field
        smallest = max(1, round((self.crumb * self.mesh) ** 3))
        cube = (field.centre, float(field.scale), self.mesh)
        mesh = surface(field, *cube, within=field.cell, smallest=smallest)
        if mesh is None:
            log.info(
                "no mesh: nothing is dense enough but crumbs (callbacks.scene.crumb), or all is"
            )
            return
        for path in (folder.mesh, folder.mesh_glb):
            write_mesh(path, mesh)
        log.info("mesh: %d vertices, %d triangles", len(mesh.vertices), len(mesh.faces))


def _flight(scene: Scene, path: Cameras, label: str) -> list[View]:
    """What is seen along a path, on the CPU; a bar shows how far it is, for it may take long."""
    title = f"looking around: {label}"
    steps = track(range(len(path)), title, console=Console(file=sys.stderr))
    views = (scene.view(path, index) for index in steps)
    return [View(*(part.cpu() for part in view)) for view in views]
