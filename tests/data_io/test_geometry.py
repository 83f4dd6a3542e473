"""Geometry that is written is what other programs read."""

import numpy as np
import pytest
import torch
import trimesh

from csd_lab.data import write_mesh, write_points
from csd_lab.data.geometry import linear_light
from csd_lab.fields import Points
from csd_lab.fields.surface import Mesh

VERTICES = torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [9, 9, 9]])
MESH = Mesh(
    VERTICES,
    torch.tensor([[0, 2, 1], [0, 1, 3], [0, 3, 2], [1, 2, 3]]),
    torch.tensor([[0.0, 0, 0], [1, 0, 0], [0, 0.5, 0], [0, 0, 0.2], [1, 1, 1]]),
)


def levels(colours):
    return (colours * 255).round().numpy()


@pytest.mark.parametrize("suffix", [".ply", ".glb"])
def test_a_mesh_is_read_back_as_it_was(tmp_path, suffix):
    write_mesh(tmp_path / f"mesh{suffix}", MESH)
    options = {} if suffix == ".ply" else {"skip_materials": True}  # else textures are wanted
    read = trimesh.load(tmp_path / f"mesh{suffix}", force="mesh", process=False, **options)
    np.testing.assert_array_equal(read.vertices, MESH.vertices.numpy())
    np.testing.assert_array_equal(read.faces, MESH.faces.numpy())
    assert read.volume == pytest.approx(1.0)  # above 0: faces look outward
    colours = MESH.colours if suffix == ".ply" else linear_light(MESH.colours)
    np.testing.assert_array_equal(read.visual.vertex_colors[:, :3], levels(colours))
    assert [path.name for path in tmp_path.iterdir()] == [f"mesh{suffix}"]


def test_a_gltf_model_shines_by_itself(tmp_path):
    write_mesh(tmp_path / "mesh.glb", MESH)
    content = (tmp_path / "mesh.glb").read_bytes()
    assert b"KHR_materials_unlit" in content
    assert b'"material":0' in content
    assert b'"NORMAL"' in content


def test_points_are_read_back_as_they_were(tmp_path):
    write_points(tmp_path / "points.ply", Points(VERTICES, MESH.colours))
    read = trimesh.load(tmp_path / "points.ply")
    assert isinstance(read, trimesh.PointCloud)
    np.testing.assert_array_equal(read.vertices, VERTICES.numpy())
    np.testing.assert_array_equal(np.asarray(read.colors)[:, :3], levels(MESH.colours))


def test_linear_light_is_that_of_the_standard():
    light = linear_light(torch.tensor([0.0, 0.02, 0.5, 1.0]))
    expected = torch.tensor([0.0, 0.02 / 12.92, 0.21404, 1.0])
    torch.testing.assert_close(light, expected, rtol=0, atol=1e-5)


def test_other_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.ply or \.glb, got 'mesh.obj'"):
        write_mesh(tmp_path / "mesh.obj", MESH)
