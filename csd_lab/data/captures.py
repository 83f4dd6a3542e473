"""Reads captures: images of one scene with the cameras that took them.

Understood are

- ``transforms.json`` of nerfstudio and of instant-ngp: intrinsics for all frames or for each
  (``fl_x``, ``fl_y``, ``cx``, ``cy``, ``w``, ``h``, or ``camera_angle_x``), OpenCV's distortion
  (``k1``, ``k2``, ``p1``, ``p2``);
- Blender's synthetic scenes: a folder with ``transforms_train.json`` and, if there is one,
  ``transforms_test.json``, whose views are held out; transparent images lie on white;
- COLMAP: a folder with ``images``, and ``sparse/0`` or ``sparse`` (``pip install
  'csd-lab[colmap]'``).

The first two give camera-to-world matrices in this package's own convention
(:mod:`csd_lab.fields.cameras`). COLMAP gives world-to-camera ones of cameras that look along +z
with y down, which are inverted and turned. Worlds are left as they are, whichever way is up.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from csd_lab.data.containers import MediaError, shown
from csd_lab.data.media import read_image
from csd_lab.fields import Cameras

PINHOLES = {"PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL"}
"""Models of lenses that are understood."""
TRANSFORMS = ("transforms.json", "transforms_train.json")
LENS = ("k1", "k2", "p1", "p2")
TURN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Between cameras that look along +z with y down, and along -z with y up."""


class Capture(NamedTuple):
    """Images of one scene.

    Attributes:
        images: (V, 3, H, W), in [0, 1].
        cameras: V of them.
        held_out: whether a view is for evaluation only, (V,), bool.
        name: of the folder, for display only.
    """

    images: Tensor
    cameras: Cameras
    held_out: Tensor
    name: str


class View(NamedTuple):
    """One image of a capture, yet to be read.

    Attributes:
        path: of the image.
        pose: camera to world, (3, 4).
        focal: f_x, f_y in pixels; None: ``angle`` says it.
        centre: c_x, c_y in pixels; None: the middle.
        lens: k_1, k_2, p_1, p_2.
        angle: the width's angle of view, in radians.
        size: height and width that the intrinsics are meant for, in pixels; None: the image's.
        held_out: whether it is for evaluation only.
    """

    path: Path
    pose: Tensor
    focal: tuple[float, float] | None
    centre: tuple[float, float] | None
    lens: tuple[float, ...]
    angle: float | None = None
    size: tuple[float, float] | None = None
    held_out: bool = False


def is_capture(path: Path) -> bool:
    """Whether a path looks like a capture: a folder of one, or a transforms.json."""
    if path.is_file():
        return path.suffix == ".json"
    return any((path / name).exists() for name in ("sparse", *TRANSFORMS))


def read_capture(path: Path | str, every: int = 8) -> Capture:
    """Read a capture.

    Args:
        path: of a folder, or of a transforms.json.
        every: each ``every``-th view is held out, from the first one on, where the capture does not
            say itself which are; 0: none.

    Raises:
        MediaError: if something is missing or not understood; the message is one line.
    """
    path = Path(path)
    if not path.exists():
        raise MediaError(f"{shown(path)} does not exist.")
    views = _views(path)
    if len(views) < 2:
        raise MediaError(
            f"{shown(path)} must have at least 2 views of its scene, got {len(views)}."
        )
    if every and not any(view.held_out for view in views):
        views = [view._replace(held_out=i % every == 0) for i, view in enumerate(views)]
    for view in views:
        if not view.path.is_file():
            raise MediaError(f"{shown(view.path)} does not exist, but {shown(path)} names it.")
    images = [read_image(view.path).image for view in views]
    _check_sizes(views, images)
    return Capture(
        torch.stack(images),
        _cameras(path, views, *images[0].shape[1:]),
        torch.tensor([view.held_out for view in views]),
        path.stem if path.is_file() else path.name,
    )


def _views(path: Path) -> list[View]:
    """The views of a capture of any kind."""
    if path.is_file():
        return _transforms(path)
    if (path / "transforms_train.json").is_file():
        views = _transforms(path / "transforms_train.json")
        if (path / "transforms_test.json").is_file():
            test = _transforms(path / "transforms_test.json")
            views += [view._replace(held_out=True) for view in test]
        return views
    if (path / "transforms.json").is_file():
        return _transforms(path / "transforms.json")
    for model in (path / "sparse" / "0", path / "sparse"):
        if any(model.glob("cameras.*")):
            return _colmap(path, model)
    raise MediaError(
        f"{shown(path)} is no capture: it must hold transforms.json, transforms_train.json, or "
        "COLMAP's sparse/0."
    )


def _transforms(path: Path) -> list[View]:
    """The views that a transforms.json lists."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        frames = content["frames"]
        return [_frame(path, content | frame) for frame in frames]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MediaError(f"{shown(path)} is not JSON: {error}.") from error
    except (KeyError, TypeError) as error:
        raise MediaError(f"{shown(path)} lacks what a transforms.json has: {error}.") from error


def _frame(path: Path, values: Mapping[str, Any]) -> View:
    """A view from its entry, with what is said of all views; KeyError if something is missing."""
    model = values.get("camera_model", "OPENCV")
    _check_model(path, model)
    if any(values.get(name, 0.0) for name in ("k3", "k4")):
        raise MediaError(f"{shown(path)} has k3 or k4, which are not understood; undistort it.")
    focal = None
    if "fl_x" in values:
        focal = (float(values["fl_x"]), float(values.get("fl_y", values["fl_x"])))
    elif "camera_angle_x" not in values:
        raise KeyError("fl_x or camera_angle_x")
    size = (float(values["h"]), float(values["w"])) if {"h", "w"} <= values.keys() else None
    centre = (float(values["cx"]), float(values["cy"])) if {"cx", "cy"} <= values.keys() else None
    return View(
        _image_path(path.parent, str(values["file_path"])),
        _pose(path, values),
        focal,
        centre,
        tuple(float(values.get(name, 0.0)) for name in LENS),
        float(values.get("camera_angle_x", 0.0)),
        size,
    )


def _pose(path: Path, values: Mapping[str, Any]) -> Tensor:
    """The upper three rows of a frame's matrix, (3, 4)."""
    matrix = torch.tensor(values["transform_matrix"], dtype=torch.float64)
    if matrix.shape not in ((4, 4), (3, 4)) or not bool(matrix.isfinite().all()):
        raise MediaError(
            f"{shown(path)}: the transform_matrix of {values['file_path']!r} must be 4 x 4 finite "
            f"numbers, got {values['transform_matrix']}."
        )
    return matrix[:3].float()


def _image_path(folder: Path, name: str) -> Path:
    """The image of this name; Blender's captures leave .png out."""
    path = folder / name
    return path if path.suffix or path.is_file() else path.with_suffix(".png")


def _check_model(path: Path, model: str) -> None:
    if model not in PINHOLES:
        raise MediaError(
            f"{shown(path)} has a camera of the model {model!r}; understood are "
            f"{', '.join(sorted(PINHOLES))}: undistort the images first."
        )


def _colmap(path: Path, model: Path) -> list[View]:
    """The views of a COLMAP reconstruction, in the order of their names."""
    try:
        import pycolmap
    except ImportError as error:
        raise MediaError(
            f"{shown(path)} is COLMAP's: reading it needs pycolmap: pip install 'csd-lab[colmap]'."
        ) from error
    try:
        reconstruction = pycolmap.Reconstruction(model)
    except (ValueError, RuntimeError, OSError) as error:
        reason = str(error).strip().splitlines()[-1]
        raise MediaError(f"{shown(model)} is no COLMAP reconstruction: {reason}.") from error
    images = sorted(reconstruction.images.values(), key=lambda image: image.name)
    return [_colmap_view(path, image) for image in images if image.has_pose]


def _colmap_view(path: Path, image: Any) -> View:
    camera = image.camera
    name = camera.model.name
    _check_model(path, name)
    world = torch.tensor(image.cam_from_world().matrix(), dtype=torch.float64)
    rotation = world[:, :3].T
    pose = torch.cat([rotation @ TURN.double(), -rotation @ world[:, 3:]], dim=1)
    radial = {"SIMPLE_RADIAL": 1, "RADIAL": 2, "OPENCV": 4}.get(name, 0)
    extra = [float(value) for value in camera.params[len(camera.params) - radial :]]
    return View(
        path / "images" / image.name,
        pose.float(),
        (camera.focal_length_x, camera.focal_length_y),
        (camera.principal_point_x, camera.principal_point_y),
        tuple((extra + [0.0] * 4)[:4]) if radial else (0.0,) * 4,
        size=(camera.height, camera.width),
    )


def _check_sizes(views: Sequence[View], images: Sequence[Tensor]) -> None:
    """Raises MediaError unless all images have one size."""
    for view, image in zip(views, images, strict=True):
        if image.shape != images[0].shape:
            sizes = (f"{each.shape[2]} x {each.shape[1]}" for each in (image, images[0]))
            raise MediaError(
                f"{shown(view.path)} must have the size of the other views of its capture; got "
                f"{' instead of '.join(sizes)}."
            )


def _cameras(path: Path, views: Sequence[View], height: int, width: int) -> Cameras:
    """Cameras for images of this size, whatever size the intrinsics were given for."""
    parts = [_intrinsics(view, height, width) for view in views]
    try:
        return Cameras(
            torch.stack([view.pose for view in views]),
            torch.tensor([focal for focal, _ in parts]),
            height,
            width,
            torch.tensor([centre for _, centre in parts]),
            torch.tensor([view.lens for view in views]),
        )
    except ValueError as error:
        raise MediaError(f"{shown(path)}: {error}.") from error


def _intrinsics(
    view: View, height: int, width: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Focal lengths and principal point in pixels of an image of this size."""
    meant = view.size or (height, width)
    down, across = height / meant[0], width / meant[1]
    if view.focal is None:
        assert view.angle is not None  # one of both is there
        length = width / (2 * math.tan(view.angle / 2))
        focal = (length, length)
    else:
        focal = (view.focal[0] * across, view.focal[1] * down)
    if view.centre is None:
        return focal, (width / 2, height / 2)
    return focal, (view.centre[0] * across, view.centre[1] * down)
