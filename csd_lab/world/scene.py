"""What a scene is: a handful of numbers and words that fix every pixel of every view.

The world is right-handed: x and z span the ground plane y = 0, y points up, lengths are metres,
angles radians. A camera of yaw 0 looks along -z; positive yaw turns it to the right (to +x).
A `Scene` is hashable and holds no tensors: an edit is a ``dataclasses.replace``.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from csd_lab.world.looks import LOOKS

KINDS = ("ball", "box", "cone", "tree", "house")
PAINTABLE = ("ball", "box", "cone")
COLOURS = {
    "red": (0.86, 0.12, 0.11),
    "yellow": (0.97, 0.84, 0.12),
    "green": (0.10, 0.58, 0.20),
    "blue": (0.12, 0.28, 0.86),
    "purple": (0.55, 0.16, 0.70),
    "orange": (0.97, 0.50, 0.06),
}
SKIES = {  # name: (zenith, horizon)
    "blue": ((0.20, 0.48, 0.92), (0.66, 0.83, 0.97)),
    "orange": ((0.95, 0.45, 0.12), (1.00, 0.78, 0.42)),
    "pink": ((0.95, 0.45, 0.66), (1.00, 0.76, 0.83)),
    "purple": ((0.36, 0.20, 0.66), (0.66, 0.52, 0.84)),
    "green": ((0.14, 0.62, 0.42), (0.62, 0.88, 0.66)),
    "grey": ((0.46, 0.49, 0.52), (0.74, 0.76, 0.78)),
}
GROUNDS = {  # name: (colour, colour of the mottling at its strongest)
    "grass": ((0.33, 0.56, 0.20), (0.45, 0.65, 0.25)),
    "sand": ((0.86, 0.74, 0.48), (0.93, 0.82, 0.58)),
    "snow": ((0.90, 0.93, 0.97), (0.97, 0.98, 1.00)),
    "dirt": ((0.42, 0.28, 0.19), (0.52, 0.36, 0.25)),
    "water": ((0.10, 0.40, 0.60), (0.20, 0.52, 0.70)),
    "leaves": ((0.76, 0.42, 0.12), (0.86, 0.55, 0.18)),
    "flowers": ((0.68, 0.80, 0.40), (0.82, 0.86, 0.50)),
}
PLAIN_GROUNDS = ("grass", "sand", "snow", "dirt", "water")
SEASONS = {  # name: (the ground that comes with it, colour of the trees' crowns)
    "summer": ("grass", (0.13, 0.40, 0.14)),
    "autumn": ("leaves", (0.82, 0.34, 0.07)),
    "winter": ("snow", (0.84, 0.88, 0.93)),
    "spring": ("flowers", (0.95, 0.58, 0.72)),
}
TIMES = ("day", "night")
BASE_FOCAL = 1.1
"""Focal length of ordinary scenes, in image heights (49 degrees of vertical field of view)."""


@dataclass(frozen=True)
class Camera:
    """Where a picture is taken from. Roll is always zero.

    Attributes:
        position: x, y, z in metres.
        yaw: azimuth of the optical axis; 0 looks along -z, pi/2 along +x.
        pitch: elevation of the optical axis; negative looks down.
        focal: focal length in units of the image's height.
    """

    position: tuple[float, float, float] = (0.0, 1.2, 0.0)
    yaw: float = 0.0
    pitch: float = -0.05
    focal: float = BASE_FOCAL

    def __post_init__(self) -> None:
        if self.position[1] <= 0:
            raise ValueError(f"position must be above the ground (y > 0), got {self.position}")
        if not abs(self.pitch) < math.pi / 2:
            raise ValueError(f"pitch must be between -pi/2 and pi/2, got {self.pitch}")
        if not self.focal > 0:
            raise ValueError(f"focal must be positive (image heights), got {self.focal}")


@dataclass(frozen=True)
class Thing:
    """One object that stands on the ground.

    Attributes:
        kind: one of ``KINDS``.
        colour: one of ``COLOURS`` (of a house: its roof and door; a tree takes the season's).
        x: position on the ground.
        z: position on the ground.
        size: height of a ball, tree or house, side scale of a box, in metres.
        yaw: rotation about the vertical.
        striped: soft horizontal stripes instead of a plain colour.
        variant: 0 or 1; round or pointed crown of a tree, pyramid or gable roof of a house.
        velocity: displacement in x and z over a whole clip.
    """

    kind: str
    colour: str
    x: float
    z: float
    size: float
    yaw: float = 0.0
    striped: bool = False
    variant: int = 0
    velocity: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        _check_name("kind", self.kind, KINDS)
        _check_name("colour", self.colour, COLOURS)
        if not self.size > 0:
            raise ValueError(f"size must be positive (metres), got {self.size}")


@dataclass(frozen=True)
class Scene:
    """A landscape with objects, light and a camera.

    Attributes:
        objects: what stands on the ground.
        sky: one of ``SKIES``.
        ground: one of ``GROUNDS``.
        season: one of ``SEASONS``; decides the colour of the trees.
        time: "day" or "night".
        look: name of a per-pixel look (``looks.LOOKS``) laid over the picture, or None.
        sun: azimuth (as a camera's yaw) and elevation of the light.
        cloud_seed: seed of the clouds and distant hills.
        texture_seed: seed of the mottling of the ground.
        camera: the camera at the start of a clip.
        truck: displacement of the camera in x and z, and its change of yaw, over a whole clip.
        detail: angular frequency of clouds and hills, 1 for a focal length of ``BASE_FOCAL``.
    """

    objects: tuple[Thing, ...] = ()
    sky: str = "blue"
    ground: str = "grass"
    season: str = "summer"
    time: str = "day"
    look: str | None = None
    sun: tuple[float, float] = (2.4, 0.8)
    cloud_seed: int = 0
    texture_seed: int = 0
    camera: Camera = field(default_factory=Camera)
    truck: tuple[float, float, float] = (0.0, 0.0, 0.0)
    detail: float = 1.0

    def __post_init__(self) -> None:
        _check_name("sky", self.sky, SKIES)
        _check_name("ground", self.ground, GROUNDS)
        _check_name("season", self.season, SEASONS)
        _check_name("time", self.time, TIMES)
        if self.look is not None:
            _check_name("look", self.look, LOOKS)

    def at(self, moment: float) -> "Scene":
        """Return the scene as it stands at a moment of its clip.

        Args:
            moment: 0 is the start of the clip, 1 its end.

        Returns:
            The scene with objects and camera moved; everything else as it was.
        """
        objects = tuple(
            replace(o, x=o.x + moment * o.velocity[0], z=o.z + moment * o.velocity[1])
            for o in self.objects
        )
        x, y, z = self.camera.position
        position = (x + moment * self.truck[0], y, z + moment * self.truck[1])
        camera = replace(
            self.camera, position=position, yaw=self.camera.yaw + moment * self.truck[2]
        )
        return replace(self, objects=objects, camera=camera)


def _check_name(argument: str, name: str, allowed: Iterable[str]) -> None:
    """Raise if a name is not among those allowed."""
    if name not in allowed:
        raise ValueError(f"{argument} must be one of {', '.join(allowed)}, got {name!r}")
