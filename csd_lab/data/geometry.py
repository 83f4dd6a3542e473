"""Writes points and meshes for other programs: PLY, and glTF as one binary file (GLB).

Axes and units are those of the world that the geometry is in; neither format is told which way is
up. Colours have 8 bits. A PLY file holds them as they are in images (sRGB). glTF wants linear
light; its material is not lit, since the colours are already those that were seen.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor
from trimesh import PointCloud, Trimesh
from trimesh.exchange.gltf import export_glb
from trimesh.exchange.ply import export_ply

from csd_lab.fields.points import Points
from csd_lab.fields.surface import Mesh
from csd_lab.files import atomic_path

MATERIAL = {
    "doubleSided": True,
    "pbrMetallicRoughness": {"metallicFactor": 0.0, "roughnessFactor": 1.0},
    "extensions": {"KHR_materials_unlit": {}},
}


def write_points(path: Path | str, points: Points) -> None:
    """Write coloured points as a binary PLY; the file appears whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    cloud = PointCloud(points.places.numpy(), colors=_bytes(points.colours))
    with atomic_path(path) as temporary:
        temporary.write_bytes(export_ply(cloud))


def write_mesh(path: Path | str, mesh: Mesh) -> None:
    """Write a mesh with colours and normals at its vertices; the file appears whole or not at all.

    Args:
        path: ends in ``.ply`` or ``.glb``.
        mesh: the mesh.

    Raises:
        ValueError: if the ending is another.
        OSError: if the file cannot be written.
    """
    path = Path(path)
    if path.suffix == ".ply":
        content = export_ply(_model(mesh, mesh.colours), vertex_normal=True)
    elif path.suffix == ".glb":
        content = export_glb(
            _model(mesh, linear_light(mesh.colours)),
            include_normals=True,
            tree_postprocessor=_give_material,
        )
    else:
        raise ValueError(f"path must end in .ply or .glb, got {path.name!r}")
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def linear_light(colours: Tensor) -> Tensor:
    """Linear light of sRGB colours, both in [0, 1] (IEC 61966-2-1)."""
    high = ((colours.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4
    return high.where(colours > 0.04045, colours / 12.92)


def _model(mesh: Mesh, colours: Tensor) -> Trimesh:
    return Trimesh(
        mesh.vertices.numpy(), mesh.faces.numpy(), vertex_colors=_bytes(colours), process=False
    )


def _bytes(colours: Tensor) -> npt.NDArray[np.uint8]:
    """Colours in [0, 1] as whole numbers up to 255."""
    levels: npt.NDArray[np.uint8] = colours.clamp(0, 1).mul(255).round().byte().numpy()
    return levels


def _give_material(tree: dict[str, Any]) -> None:
    """Have a glTF tree's one mesh shown as it was seen."""
    tree["materials"] = [MATERIAL]
    tree["extensionsUsed"] = ["KHR_materials_unlit"]
    for mesh in tree["meshes"]:
        for primitive in mesh["primitives"]:
            primitive["material"] = 0
