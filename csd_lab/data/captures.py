"""Reads captures: images of one scene with the cameras that took them.

Understood are

- ``transforms.json`` of nerfstudio and of instant-ngp: intrinsics for all frames or for each
  (``fl_x``, ``fl_y``, ``cx``, ``cy``, ``w``, ``h``, or ``camera_angle_x`` and
  ``camera_angle_y``), OpenCV's distortion (``k1``, ``k2``, ``p1``, ``p2``); views in
  ``val_filenames`` or ``test_filenames`` are held out, and of those in neither only the ones in
  ``train_filenames`` are taken, where there is such a list; masks are not read;
- Blender's synthetic scenes: a folder with ``transforms_train.json`` and, if there is one,
  ``transforms_test.json``, whose views are held out; transparent images lie on white;
- COLMAP: a folder with ``images``, and ``sparse/0`` or ``sparse`` (``pip install
  'csd-lab[colmap]'``).

The first two give camera-to-world matrices in this package's own convention
(:mod:`csd_lab.fields.cameras`). COLMAP gives world-to-camera ones of cameras that look along +z
with y down, which are inverted and turned. Worlds are left as they are, whichever way is up. Views
come in the order of their images' names, as neighbours along a path.
"""

import json
import logging
import math
from collections.abc import Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple, final

import torch
from torch import Tensor

from csd_lab.data.containers import MediaError, shown
from csd_lab.data.fit import Fit, Side, side_length
from csd_lab.data.media import image_size, read_image
from csd_lab.fields import Cameras
from csd_lab.text import natural

log = logging.getLogger(__name__)

PINHOLES = {"PINHOLE", "SIMPLE_PINHOLE", "OPENCV", "SIMPLE_RADIAL", "RADIAL"}
"""Models of lenses that are understood."""
TRANSFORMS = ("transforms.json", "transforms_train.json")
LENS = ("k1", "k2", "p1", "p2")
SUFFIXES = (".png", ".jpg", ".jpeg")
"""Of images whose names lack one."""
RATIO = 0.01
"""By how much the sides of an image may differ from the ratio of those that were meant."""
NEAREST = 1e-4
"""Spread of the cameras, as a share of their distance from the origin, that float32 resolves."""
FOLLOWED, HELD_OUT = "train_filenames", ("val_filenames", "test_filenames")
"""Nerfstudio's lists of the images that a scene is fitted to, and of those for evaluation."""
TURN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
"""Between cameras that look along +z with y down, and along -z with y up."""


class Capture(NamedTuple):
    """Images of one scene.

    Attributes:
        images: V of them, (3, H, W) each, in [0, 1]; those of files are read anew whenever they
            are asked for.
        cameras: V of them.
        held_out: whether a view is for evaluation only, (V,), bool.
        name: of the folder, for display only.
    """

    images: Sequence[Tensor]
    cameras: Cameras
    held_out: Tensor
    name: str


class Frame(NamedTuple):
    """One image of a capture, yet to be read.

    Attributes:
        path: of the image.
        pose: camera to world, (3, 4), float64.
        focal: f_x, f_y, in pixels of an image of ``size``.
        centre: c_x, c_y, likewise.
        lens: k_1, k_2, p_1, p_2.
        size: height and width that the intrinsics are meant for.
        held_out: whether it is for evaluation only.
    """

    path: Path
    pose: Tensor
    focal: tuple[float, float]
    centre: tuple[float, float]
    lens: tuple[float, ...]
    size: tuple[float, float]
    held_out: bool = False


@final
class ImageFiles(Sequence[Tensor]):
    """Images in files, as they are stored: intrinsics are those of stored pixels, not of EXIF's.

    Args:
        paths: of the files.
        fit: makes them smaller.
    """

    def __init__(self, paths: Sequence[Path], fit: Fit) -> None:
        self.paths = tuple(paths)
        self.fit = fit

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        """The image, (3, H, W), in [0, 1]; images of a slice."""
        if isinstance(index, slice):
            return ImageFiles(self.paths[index], self.fit)
        return self.fit.apply(read_image(self.paths[index], upright=False).image)


def is_capture(path: Path) -> bool:
    """Whether a path looks like a capture: a folder of one, or a transforms.json."""
    if path.is_file():
        return path.suffix == ".json"
    return any((path / name).exists() for name in ("sparse", *TRANSFORMS))


def read_capture(
    path: Path | str,
    every: int = 8,
    skip_missing: bool = False,
    resolution: int | None = None,
    side: Side = "short",
) -> Capture:
    """Read a capture.

    Args:
        path: of a folder, or of a transforms.json.
        every: each ``every``-th view is held out, from the first one on, where the capture does not
            say itself which are; 0: none.
        skip_missing: leave views out whose images do not exist, and log how many.
        resolution: how long a side of the images is at most, in pixels: they are made smaller as
            they are read. None: as long as in the files.
        side: which side that is.

    Raises:
        MediaError: if something is missing or not understood; the message is one line.
    """
    path = Path(path)
    if not path.exists():
        raise MediaError(f"{shown(path)} does not exist.")
    frames = _frames(path, skip_missing)
    if len(frames) < 2:
        raise MediaError(
            f"{shown(path)} must have at least 2 views of its scene, got {len(frames)}."
        )
    if every and not any(frame.held_out for frame in frames):
        frames = [frame._replace(held_out=i % every == 0) for i, frame in enumerate(frames)]
    size = _common_size(frames)
    _check_followed(path, frames)
    own = side_length(size, side)
    fit = Fit(size, 1, min(resolution or own, own), side)
    return Capture(
        ImageFiles([frame.path for frame in frames], fit),
        _cameras(path, frames, *size).resized(*fit.fitted),
        torch.tensor([frame.held_out for frame in frames]),
        (path.parent if path.is_file() else path).resolve().name,
    )


def _frames(path: Path, skip_missing: bool) -> list[Frame]:
    """The views of a capture of any kind."""
    if path.is_file():
        return _transforms(path, skip_missing)
    if (path / "transforms_train.json").is_file():
        frames = _transforms(path / "transforms_train.json", skip_missing)
        if (path / "transforms_test.json").is_file():
            test = _transforms(path / "transforms_test.json", skip_missing)
            frames += [frame._replace(held_out=True) for frame in test]
        return frames
    if (path / "transforms.json").is_file():
        return _transforms(path / "transforms.json", skip_missing)
    for model in (path / "sparse" / "0", path / "sparse"):
        if any(model.glob("cameras.*")):
            return _colmap(path, model, skip_missing)
    raise MediaError(
        f"{shown(path)} is no capture: it must hold transforms.json, transforms_train.json, or "
        "COLMAP's sparse/0."
    )


def _there(paths: Sequence[Path], named_by: Path, skip_missing: bool) -> list[bool]:
    """Which images exist.

    Raises:
        MediaError: not all do, and none is to be skipped.
    """
    there = [path.is_file() for path in paths]
    missing = [path for path, exists in zip(paths, there, strict=True) if not exists]
    if missing and not skip_missing:
        raise MediaError(
            f"{shown(named_by)} names images that are missing: {len(missing)} of {len(paths)}, "
            f"{shown(missing[0])} first; data.skip_missing=true leaves their views out."
        )
    if missing:
        log.warning("left out %d of %d views, without an image", len(missing), len(paths))
    return there


def _transforms(path: Path, skip_missing: bool) -> list[Frame]:
    """The views that a transforms.json lists, in the order of their images' names."""
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
        shared = {name: value for name, value in content.items() if name != "frames"}
        entries = [_Entry(path, shared | values) for values in content["frames"]]
        entries = _listed(path, shared, sorted(entries, key=lambda entry: natural(entry.name)))
        if masked := sum("mask_path" in entry.values for entry in entries):
            log.warning("masks of %d views are not read: what they hide is seen", masked)
        there = _there([entry.path for entry in entries], path, skip_missing)
        return [entry.frame() for entry in compress(entries, there)]
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise MediaError(
            f"{shown(path)} is no transforms.json, nor the folder of a capture: {error}."
        ) from error
    except (AttributeError, KeyError, TypeError) as error:
        raise MediaError(f"{shown(path)} lacks what a transforms.json has: {error}.") from error


def _listed(path: Path, shared: Mapping[str, Any], entries: list["_Entry"]) -> list["_Entry"]:
    """The entries that nerfstudio's lists name, where it lists those to follow; else all.

    Raises:
        MediaError: a list names an image that no entry has.
    """
    names = {Path(entry.name) for entry in entries}
    lists = {key: [Path(name) for name in shared.get(key) or ()] for key in (FOLLOWED, *HELD_OUT)}
    for key, listed in lists.items():
        if unknown := [name for name in listed if name not in names]:
            raise MediaError(
                f"{shown(path)}: {key} must name images of its frames, got {str(unknown[0])!r}."
            )
    if not lists[FOLLOWED]:
        return entries
    wanted = set().union(*lists.values())
    if left_out := len(names - wanted):
        log.warning("left out %d views, which are in none of the lists of names", left_out)
    return [entry for entry in entries if Path(entry.name) in wanted]


@final
class _Entry:
    """One frame's entry in a transforms.json, with what is said of all frames.

    Args:
        file: the transforms.json.
        values: by name.

    Raises:
        KeyError: it names no image.
    """

    def __init__(self, file: Path, values: Mapping[str, Any]) -> None:
        self.file = file
        self.values = values
        self.name = str(values["file_path"])
        self.path = self._image()

    def frame(self) -> Frame:
        """The view.

        Raises:
            KeyError: something is missing.
            MediaError: something is not understood.
        """
        self._check_lens()
        size = self._pair("h", "w") or tuple(map(float, image_size(self.path, upright=False)))
        return Frame(
            self.path,
            self._pose(),
            self._focal(*size),
            self._pair("cx", "cy", positive=False) or (size[1] / 2, size[0] / 2),
            tuple(self._number(name, 0.0) for name in LENS),
            (size[0], size[1]),
            self._is_held_out(),
        )

    def _check_lens(self) -> None:
        model = self.values.get("camera_model", "OPENCV")
        _check_model(self.file, "OPENCV_FISHEYE" if self.values.get("is_fisheye") else model)
        if any(self._number(name, 0.0) for name in ("k3", "k4")):
            raise MediaError(
                f"{shown(self.file)} has k3 or k4, which are not understood; undistort it."
            )

    def _focal(self, height: float, width: float) -> tuple[float, float]:
        if "fl_x" in self.values:
            across = self._number("fl_x", positive=True)
            return across, self._number("fl_y", across, positive=True)
        if "camera_angle_x" not in self.values:
            raise KeyError("fl_x or camera_angle_x")
        across = self._length("camera_angle_x", width)
        down = "camera_angle_y" in self.values
        return across, self._length("camera_angle_y", height) if down else across

    def _length(self, name: str, side: float) -> float:
        """The focal length that has a side of the image seen at an angle of this name."""
        angle = self._number(name, positive=True)
        if angle >= math.pi:
            raise self._wrong(name, "below pi, in radians")
        return side / (2 * math.tan(angle / 2))

    def _pair(self, first: str, second: str, positive: bool = True) -> tuple[float, float] | None:
        """Two numbers; None if neither is there."""
        if not {first, second} & self.values.keys():
            return None
        return self._number(first, positive=positive), self._number(second, positive=positive)

    def _number(self, name: str, default: float | None = None, positive: bool = False) -> float:
        """A number of the entry; the default where there is none."""
        value = self.values.get(name, default)
        allowed = isinstance(value, int | float) and math.isfinite(value)
        if not allowed or (positive and not value > 0):
            raise self._wrong(name, "a number above 0" if positive else "a finite number")
        return float(value)

    def _wrong(self, name: str, wanted: str) -> MediaError:
        return MediaError(
            f"{shown(self.file)}: the {name} of {self.name!r} must be {wanted}, got "
            f"{self.values.get(name)!r}."
        )

    def _pose(self) -> Tensor:
        """The upper three rows of the matrix, (3, 4)."""
        try:
            matrix = torch.tensor(self.values["transform_matrix"], dtype=torch.float64)
        except (TypeError, ValueError) as error:
            raise self._wrong("transform_matrix", "4 x 4 finite numbers") from error
        if matrix.shape not in ((4, 4), (3, 4)) or not bool(matrix.isfinite().all()):
            raise self._wrong("transform_matrix", "4 x 4 finite numbers")
        return matrix[:3]

    def _image(self) -> Path:
        """The image of this name; Blender's captures leave the suffix out."""
        path = self.file.parent / self.name
        if path.is_file():
            return path
        completed = (path.with_name(path.name + suffix) for suffix in SUFFIXES)
        return next((found for found in completed if found.is_file()), path)

    def _is_held_out(self) -> bool:
        """Whether nerfstudio's lists have it for evaluation."""
        names = {Path(name) for key in HELD_OUT for name in self.values.get(key) or ()}
        return Path(self.name) in names


def _check_model(path: Path, model: str) -> None:
    if model not in PINHOLES:
        raise MediaError(
            f"{shown(path)} has a camera of the model {model!r}; understood are "
            f"{', '.join(sorted(PINHOLES))}: undistort the images first."
        )


def _colmap(path: Path, model: Path, skip_missing: bool) -> list[Frame]:
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
    images = sorted(reconstruction.images.values(), key=lambda image: natural(image.name))
    frames = [_colmap_view(path, image) for image in images if image.has_pose]
    return list(compress(frames, _there([frame.path for frame in frames], path, skip_missing)))


def _colmap_view(path: Path, image: Any) -> Frame:
    camera = image.camera
    name = camera.model.name
    _check_model(path, name)
    world = torch.tensor(image.cam_from_world().matrix(), dtype=torch.float64)
    rotation = world[:, :3].T
    pose = torch.cat([rotation @ TURN.double(), -rotation @ world[:, 3:]], dim=1)
    radial = {"SIMPLE_RADIAL": 1, "RADIAL": 2, "OPENCV": 4}.get(name, 0)
    extra = [float(value) for value in camera.params[len(camera.params) - radial :]]
    return Frame(
        path / "images" / image.name,
        pose,
        (camera.focal_length_x, camera.focal_length_y),
        (camera.principal_point_x, camera.principal_point_y),
        tuple((extra + [0.0] * 4)[:4]) if radial else (0.0,) * 4,
        size=(camera.height, camera.width),
    )


def _common_size(frames: Sequence[Frame]) -> tuple[int, int]:
    """Height and width of all images.

    Raises:
        MediaError: they differ, or their sides are not in the ratio that the intrinsics are for.
    """
    sizes = [image_size(frame.path, upright=False) for frame in frames]
    for frame, (height, width) in zip(frames, sizes, strict=True):
        if (height, width) != sizes[0]:
            raise MediaError(
                f"{shown(frame.path)} must have the size of the other views of its capture, got "
                f"{width} x {height} instead of {sizes[0][1]} x {sizes[0][0]}."
            )
        down, across = height / frame.size[0], width / frame.size[1]
        if not math.isclose(down, across, rel_tol=RATIO):
            raise MediaError(
                f"{shown(frame.path)} must have sides in the ratio of the size that its intrinsics "
                f"are for, {frame.size[1]:g} x {frame.size[0]:g}, got {width} x {height}."
            )
    return sizes[0]


def _cameras(path: Path, frames: Sequence[Frame], height: int, width: int) -> Cameras:
    """Cameras for images of this size, whatever size the intrinsics were given for."""
    poses = torch.stack([frame.pose for frame in frames])
    sizes = torch.tensor([frame.size for frame in frames])
    scale = torch.tensor([width, height]) / sizes.flip(1)
    try:
        return Cameras(
            poses,
            torch.tensor([frame.focal for frame in frames]) * scale,
            height,
            width,
            torch.tensor([frame.centre for frame in frames]) * scale,
            torch.tensor([frame.lens for frame in frames]),
        )
    except ValueError as error:
        raise MediaError(f"{shown(path)}: {error}.") from error


def _check_followed(path: Path, frames: Sequence[Frame]) -> None:
    """Check the views that a scene is to be fitted to.

    Raises:
        MediaError: they are fewer than two, or their cameras do not stand in different places that
            float32 tells apart.
    """
    followed = [frame for frame in frames if not frame.held_out]
    if len(followed) < 2:
        raise MediaError(
            f"{shown(path)} must leave at least 2 of its {len(frames)} views to follow, got "
            f"{len(followed)}; data.hold_out=0 holds none out, unless the capture says which."
        )
    places = torch.stack([frame.pose[:, 3] for frame in followed])
    spread = float((places - places.mean(dim=0)).norm(dim=1).mean())
    farthest = float(places.norm(dim=1).max())
    if spread <= NEAREST * farthest or spread == 0:
        raise MediaError(
            f"{shown(path)} must have cameras in different places, not far from the origin; they "
            f"stand {spread:.3g} from each other and {farthest:.3g} from the origin: move the "
            "scene to the origin, or take views from more places."
        )
