"""Captures in the formats that people have, of cameras whose rays are known."""

import json
import math
import sys

import pytest
import torch
from PIL import Image

from csd_lab import world
from csd_lab.data import MediaError, captures, read_image, write_image
from csd_lab.data.captures import read_capture
from csd_lab.data.world_capture import scene_edit
from csd_lab.fields import Cameras

SIZE = 24
INSTRUCTION = "make it night"


@pytest.fixture(scope="module")
def edit():
    return scene_edit(world.HELD_OUT_SEED + 5, INSTRUCTION, views=5, held_out=2, size=SIZE)


@pytest.fixture
def capture(edit):
    return edit.capture


def matrices(cameras: Cameras) -> list:
    last = torch.tensor([[[0.0, 0.0, 0.0, 1.0]]]).expand(len(cameras), -1, -1)
    return torch.cat([cameras.poses, last], dim=1).tolist()


def write_images(folder, capture, suffix=".png"):
    names = [f"images/{i:03d}" for i in range(len(capture.images))]
    for name, image in zip(names, capture.images, strict=True):
        write_image(folder / f"{name}{suffix}", image)
    return names


def nerfstudio(folder, capture, **more):
    """A capture as nerfstudio writes it; the path of its file."""
    cameras = capture.cameras
    names = write_images(folder, capture)
    content = {
        "camera_model": "OPENCV",
        "fl_x": float(cameras.focal[0, 0]),
        "fl_y": float(cameras.focal[0, 1]),
        "cx": SIZE / 2,
        "cy": SIZE / 2,
        "w": SIZE,
        "h": SIZE,
        "frames": [
            {"file_path": f"{name}.png", "transform_matrix": matrix}
            for name, matrix in zip(names, matrices(cameras), strict=True)
        ],
    } | more
    path = folder / "transforms.json"
    path.write_text(json.dumps(content))
    return path


def same_rays(found: Cameras, expected: Cameras) -> None:
    assert len(found) == len(expected)
    for index in range(len(found)):
        for one, other in zip(found.image_rays(index), expected.image_rays(index), strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-4)


def test_the_worlds_own_rays_are_those_of_its_capture(edit):
    """What the world says is seen at a distance is where the cameras say it is."""
    cameras, depth = edit.capture.cameras, edit.depth
    rays = cameras.image_rays(0)
    finite = depth[0].flatten().isfinite()
    points = (rays.origins + depth[0].flatten()[:, None] * rays.directions)[finite]
    ground = points[:, 1].abs() < 1e-3
    assert ground.float().mean() > 0.3  # what is no object is the ground, at height 0
    assert (points[:, 1] > -1e-3).all()
    places, ahead = cameras.project(points, 3)
    inside = (ahead > 0) & (places >= 1).all(dim=1) & (places < SIZE - 1).all(dim=1)
    columns, rows = places[inside].long().unbind(dim=1)
    seen = depth[3][rows, columns]
    distance = (points[inside] - cameras.poses[3, :, 3]).norm(dim=1)
    assert inside.sum() > 50
    near = (seen / distance - 1).abs() < 0.1
    assert (near | (seen < distance)).float().mean() > 0.95  # or hidden by something


def test_views_held_out_stand_between_the_others(capture):
    middle = capture.cameras.poses[:5, :, 3].mean(dim=0)
    arms = (capture.cameras.poses[:, :, 3] - middle)[:, [0, 2]]
    assert capture.held_out.tolist() == [False] * 5 + [True] * 2
    reach = arms.norm(dim=1)
    torch.testing.assert_close(reach, reach[:1].expand(7), rtol=0, atol=1e-3)


def test_the_answers_are_seen_by_the_same_cameras(edit):
    assert edit.targets.shape == (1, 7, 3, SIZE, SIZE)
    assert edit.targets.mean() < 0.7 * torch.stack(edit.capture.images).mean()  # night


@pytest.mark.parametrize("as_file", [True, False])
def test_nerfstudio(tmp_path, capture, as_file):
    path = nerfstudio(tmp_path, capture)
    found = read_capture(path if as_file else tmp_path, every=3)
    same_rays(found.cameras, capture.cameras)
    assert len(found.images) == len(capture.images)
    for image, written in zip(found.images, capture.images, strict=True):
        torch.testing.assert_close(image, written, rtol=0, atol=1 / 255)
    assert found.held_out.tolist() == [True, False, False, True, False, False, True]


def test_views_without_an_image_can_be_left_out(tmp_path, capture, caplog):
    """Also where sizes are those of the images."""
    path = nerfstudio(tmp_path, capture)
    content = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("w", "h")}
    path.write_text(json.dumps(content))
    for missing in (0, 4):
        (tmp_path / "images" / f"{missing:03d}.png").unlink()
    found = read_capture(tmp_path, every=0, skip_missing=True)
    kept = [1, 2, 3, 5, 6]
    assert [image.stem for image in found.images.paths] == [f"{i:03d}" for i in kept]
    torch.testing.assert_close(found.cameras.poses, capture.cameras.poses[kept])
    assert "left out 2 of 7 views" in caplog.text


def test_views_come_in_the_order_of_their_names(tmp_path, capture):
    """However a file lists them: neighbours are to be neighbours."""
    path = nerfstudio(tmp_path, capture)
    content = json.loads(path.read_text())
    content["frames"] = [content["frames"][i] for i in (3, 0, 6, 1, 5, 2, 4)]
    path.write_text(json.dumps(content), encoding="utf-8-sig")
    found = read_capture(path)
    torch.testing.assert_close(found.cameras.poses, capture.cameras.poses)
    assert found.name == tmp_path.name


def test_pixels_that_are_not_square_have_two_angles(tmp_path, capture):
    path = nerfstudio(tmp_path, capture)
    content = {k: v for k, v in json.loads(path.read_text()).items() if k not in ("fl_x", "fl_y")}
    content |= {"camera_angle_x": 2 * math.atan(0.5), "camera_angle_y": 2 * math.atan(1.0)}
    path.write_text(json.dumps(content))
    focal = read_capture(path).cameras.focal
    torch.testing.assert_close(focal[0], torch.tensor([SIZE / 1.0, SIZE / 2.0]))


def test_masks_are_not_read_and_that_is_told(tmp_path, capture, caplog):
    path = nerfstudio(tmp_path, capture)
    content = json.loads(path.read_text())
    content["frames"][2]["mask_path"] = "masks/002.png"
    path.write_text(json.dumps(content))
    assert len(read_capture(path).images) == 7
    assert "masks of 1 views are not read" in caplog.text


def test_instant_ngp(tmp_path, capture):
    """An angle of view instead of focal lengths."""
    angle = 2 * math.atan(SIZE / 2 / float(capture.cameras.focal[0, 0]))
    names = write_images(tmp_path, capture, ".jpg")
    frames = [
        {"file_path": f"./{name}.jpg", "transform_matrix": matrix, "sharpness": 30.0}
        for name, matrix in zip(names, matrices(capture.cameras), strict=True)
    ]
    content = {"camera_angle_x": angle, "aabb_scale": 4, "frames": frames}
    (tmp_path / "transforms.json").write_text(json.dumps(content))
    same_rays(read_capture(tmp_path).cameras, capture.cameras)


def test_blender(tmp_path, capture):
    """Names without a suffix, two files, and transparency over white."""
    angle = 2 * math.atan(SIZE / 2 / float(capture.cameras.focal[0, 0]))
    for split, ids in {"train": range(5), "test": range(5, 7)}.items():
        frames = []
        for i in ids:
            opacity = torch.zeros(1, SIZE, SIZE)
            opacity[:, : SIZE // 2] = 1
            path = tmp_path / split / f"r_{i}.png"
            write_image(path, torch.cat([capture.images[i], opacity]))
            matrix = matrices(capture.cameras)[i]
            frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": matrix})
        content = {"camera_angle_x": angle, "frames": frames}
        (tmp_path / f"transforms_{split}.json").write_text(json.dumps(content))
    found = read_capture(tmp_path)
    same_rays(found.cameras, capture.cameras)
    assert found.held_out.tolist() == [False] * 5 + [True] * 2
    half = SIZE // 2
    for image, written in zip(found.images, capture.images, strict=True):
        torch.testing.assert_close(image[:, :half], written[:, :half], rtol=0, atol=1 / 255)
        assert (image[:, half:] == 1).all()


def colmap(folder, capture, model="PINHOLE", lens=()):
    """A capture as COLMAP's text files."""
    cameras = capture.cameras
    names = write_images(folder, capture)
    sparse = folder / "sparse" / "0"
    sparse.mkdir(parents=True)
    fx, fy = cameras.focal[0].tolist()
    focal = [fx] if model.startswith(("SIMPLE", "RADIAL")) else [fx, fy]
    values = [*focal, SIZE / 2, SIZE / 2, *lens]
    text = " ".join(map(str, values))
    (sparse / "cameras.txt").write_text(f"1 {model} {SIZE} {SIZE} {text}\n")
    (sparse / "points3D.txt").write_text("")
    lines = []
    for i, name in enumerate(names):
        rotation = torch.diag(torch.tensor([1.0, -1.0, -1.0])) @ cameras.poses[i, :, :3].T
        shift = -rotation @ cameras.poses[i, :, 3]
        quaternion = as_quaternion(rotation)
        numbers = " ".join(map(str, [*quaternion, *shift.tolist()]))
        lines.append(f"{i + 1} {numbers} 1 {name.removeprefix('images/')}.png\n\n")
    (sparse / "images.txt").write_text("".join(lines))


def as_quaternion(rotation) -> list[float]:
    """w, x, y, z of a rotation, by its axis: the eigenvector of a symmetric form."""
    r = rotation.double()
    form = torch.zeros(4, 4, dtype=torch.float64)
    form[0, 0] = r.trace()
    form[0, 1:] = torch.stack([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]])
    form[1:, 0] = form[0, 1:]
    form[1:, 1:] = r + r.T - r.trace() * torch.eye(3)
    return torch.linalg.eigh(form).eigenvectors[:, -1].tolist()


@pytest.mark.parametrize(
    ("model", "lens"),
    [
        ("PINHOLE", ()),
        ("SIMPLE_PINHOLE", ()),
        ("SIMPLE_RADIAL", (0.03,)),
        ("RADIAL", (0.03, -0.01)),
        ("OPENCV", (0.03, -0.01, 0.002, 0.001)),
    ],
)
def test_colmap(tmp_path, capture, model, lens):
    colmap(tmp_path, capture, model, lens)
    coefficients = torch.tensor((list(lens) + [0.0] * 4)[:4])
    plain = capture.cameras
    expected = Cameras(plain.poses, plain.focal, SIZE, SIZE, plain.centre, coefficients)
    same_rays(read_capture(tmp_path).cameras, expected)


def test_colmap_without_its_library_is_told(tmp_path, capture, monkeypatch):
    colmap(tmp_path, capture)
    monkeypatch.setitem(sys.modules, "pycolmap", None)
    with pytest.raises(MediaError, match=r"pip install 'csd-lab\[colmap\]'"):
        read_capture(tmp_path)


def test_intrinsics_of_another_size_are_scaled(tmp_path, capture):
    double = {"w": 2 * SIZE, "h": 2 * SIZE, "cx": SIZE, "cy": SIZE}
    focal = {name: 2 * float(capture.cameras.focal[0, 0]) for name in ("fl_x", "fl_y")}
    nerfstudio(tmp_path, capture, **double, **focal)
    same_rays(read_capture(tmp_path).cameras, capture.cameras)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_images_are_taken_as_they_are_stored(tmp_path, capture, suffix):
    """Intrinsics are of stored pixels; EXIF would turn these."""
    path = nerfstudio(tmp_path, capture)
    orientation = Image.Exif()
    orientation[0x0112] = 6
    content = json.loads(path.read_text())
    for frame in content["frames"]:
        image = Image.open(tmp_path / frame["file_path"])
        file = (tmp_path / frame["file_path"]).with_suffix(suffix)
        image.save(file, exif=orientation)
        frame["file_path"] = str(file.relative_to(tmp_path))
    path.write_text(json.dumps(content))
    found = read_capture(tmp_path)
    torch.testing.assert_close(found.images[2], capture.images[2], rtol=0, atol=1 / 255)
    assert not torch.allclose(read_image(file).image, capture.images[-1], atol=0.05)


def test_nerfstudios_lists_say_what_is_held_out(tmp_path, capture):
    path = nerfstudio(tmp_path, capture)
    content = json.loads(path.read_text())
    names = [frame["file_path"] for frame in content["frames"]]
    content |= {"val_filenames": names[1:2], "test_filenames": [f"./{names[4]}"]}
    path.write_text(json.dumps(content))
    assert read_capture(tmp_path).held_out.nonzero()[:, 0].tolist() == [1, 4]
    path.write_text(json.dumps(content | {"train_filenames": names[2:4]}))
    found = read_capture(tmp_path)
    assert found.held_out.tolist() == [True, False, False, True]
    torch.testing.assert_close(found.cameras.poses, capture.cameras.poses[1:5])


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".jpeg"])
def test_names_without_a_suffix_may_have_dots(tmp_path, capture, suffix):
    path = nerfstudio(tmp_path, capture)
    content = json.loads(path.read_text())
    for index, frame in enumerate(content["frames"]):
        frame["file_path"] = f"at_{index}.5"
        write_image(tmp_path / f"at_{index}.5{suffix}", capture.images[index])
    path.write_text(json.dumps(content))
    assert len(read_capture(tmp_path).images) == len(capture.images)


def test_images_are_read_when_they_are_asked_for(tmp_path, capture, monkeypatch):
    nerfstudio(tmp_path, capture)
    asked = []
    monkeypatch.setattr(
        captures, "read_image", lambda path, upright: asked.append(path) or read_image(path)
    )
    found = read_capture(tmp_path)
    assert not asked
    assert found.images[3].shape == (3, SIZE, SIZE)
    assert [path.name for path in asked] == ["003.png"]


def remove_an_image(folder, content):
    (folder / "images" / "002.png").unlink()


def make_an_image_larger(folder, content):
    write_image(folder / "images" / "002.png", torch.zeros(3, SIZE, SIZE + 8))


def leave_one_view(folder, content):
    content["frames"] = content["frames"][:1]


def spoil_a_pose(folder, content):
    content["frames"][1]["transform_matrix"][0][0] = float("nan")


def stretch_a_pose(folder, content):
    content["frames"][1]["transform_matrix"] = (2 * torch.eye(4)).tolist()


def take_a_fisheye(folder, content):
    content["camera_model"] = "OPENCV_FISHEYE"


def forget_the_focal_length(folder, content):
    del content["fl_x"]


def turn_the_sides(folder, content):
    content["w"], content["h"] = 2 * SIZE, SIZE


def take_a_fisheye_of_ngp(folder, content):
    content["is_fisheye"] = True


def misspell_a_number(folder, content):
    content["frames"][1]["fl_x"] = "abc"


def have_no_height(folder, content):
    content["w"], content["h"] = SIZE, 0


def have_no_angle(folder, content):
    del content["fl_x"]
    content["camera_angle_x"] = 0


def leave_a_hole_in_a_pose(folder, content):
    content["frames"][1]["transform_matrix"][0].pop()


def go_far_away(folder, content):
    for frame in content["frames"]:
        frame["transform_matrix"][0][3] += 5e5


def stay_in_one_place(folder, content):
    for frame in content["frames"]:
        for row in frame["transform_matrix"][:3]:
            row[3] = 1.0


def hold_out_all(folder, content):
    content["test_filenames"] = [frame["file_path"] for frame in content["frames"]]


def leave_one_to_follow(folder, content):
    content["test_filenames"] = [frame["file_path"] for frame in content["frames"][1:]]


def list_what_is_not_there(folder, content):
    content["val_filenames"] = ["images/7.png"]


def have_half_a_centre(folder, content):
    del content["cy"]


def forget_a_pose(folder, content):
    del content["frames"][0]["transform_matrix"]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (remove_an_image, r"images that are missing: 1 of 7, .*002.png' first; data.skip_missing"),
        (make_an_image_larger, "must have the size of the other views.*32 x 24 instead of 24 x 24"),
        (leave_one_view, "at least 2 views of its scene, got 1"),
        (spoil_a_pose, "transform_matrix of 'images/001.png' must be 4 x 4 finite"),
        (stretch_a_pose, "the pose of camera 1 must have a rotation"),
        (take_a_fisheye, "the model 'OPENCV_FISHEYE'; understood are OPENCV, PINHOLE"),
        (forget_the_focal_length, "lacks what a transforms.json has: 'fl_x or camera_angle_x'"),
        (turn_the_sides, "in the ratio .* are for, 48 x 24, got 24 x 24"),
        (take_a_fisheye_of_ngp, "the model 'OPENCV_FISHEYE'"),
        (misspell_a_number, "the fl_x of 'images/001.png' must be a number above 0, got 'abc'"),
        (have_no_height, "the h of 'images/000.png' must be a number above 0, got 0"),
        (have_no_angle, "the camera_angle_x of 'images/000.png' must be a number above 0, got 0"),
        (leave_a_hole_in_a_pose, "transform_matrix of 'images/001.png' must be 4 x 4 finite"),
        (go_far_away, "cameras in different places, not far from the origin; they stand"),
        (stay_in_one_place, "cameras in different places"),
        (hold_out_all, "must leave at least 2 of its 7 views to follow, got 0"),
        (leave_one_to_follow, "must leave at least 2 of its 7 views to follow, got 1"),
        (
            list_what_is_not_there,
            "val_filenames must name images of its frames, got 'images/7",
        ),
        (have_half_a_centre, "the cy of 'images/000.png' must be a finite number, got None"),
        (forget_a_pose, "lacks what a transforms.json has: 'transform_matrix'"),
    ],
)
def test_broken_captures_are_told_in_one_line(tmp_path, capture, spoil, told):
    path = nerfstudio(tmp_path, capture)
    content = json.loads(path.read_text())
    spoil(tmp_path, content)
    path.write_text(json.dumps(content))
    with pytest.raises(MediaError, match=told) as error:
        read_capture(tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda folder: None, "is no capture"),
        (lambda folder: (folder / "transforms.json").write_text("{"), "is no transforms.json"),
        (lambda folder: (folder / "transforms.json").write_text("[]"), "lacks what"),
    ],
)
def test_what_is_no_capture_is_told(tmp_path, make, told):
    make(tmp_path)
    with pytest.raises(MediaError, match=told):
        read_capture(tmp_path)
    with pytest.raises(MediaError, match="does not exist"):
        read_capture(tmp_path / "none")
