"""Scenes of the plain kind: a grid of densities and colours, for any machine."""

from csd_lab.fields.bounds import Bounds
from csd_lab.fields.field import GridField
from csd_lab.fields.renderer import Renderer
from csd_lab.fields.scene import FieldScene, Scene


def grid_scene(
    bounds: Bounds,
    resolution: int = 96,
    background_height: int = 32,
    coarse: int = 48,
    fine: int = 32,
    chunk: int = 4096,
) -> FieldScene:
    """A grid field where a scene lies, and its renderer.

    Args:
        bounds: of the scene.
        resolution: nodes along each side of the grid.
        background_height: rows of the panorama behind all.
        coarse: pieces of a ray in the first pass.
        fine: pieces of a ray in the second pass.
        chunk: rays that are rendered together at most where no gradient is wanted.

    Raises:
        ValueError: an argument is out of range.
    """
    field = GridField(bounds.centre, bounds.scale, resolution, background_height)
    renderer = Renderer(bounds.near, bounds.far, bounds.linear, coarse, fine, chunk)
    return FieldScene(field, renderer)


def grid_of(scene: Scene) -> GridField:
    """The grid that a scene is made of.

    Raises:
        ValueError: it is made of something else.
    """
    if not isinstance(scene, FieldScene) or not isinstance(scene.field, GridField):
        raise ValueError(
            f"field must be a grid (field=grid) to make a scene anew, got {type(scene).__name__}."
        )
    return scene.field
