"""Random scenes: ordinary ones (pictures and clips) and wide ones (panoramas).

All objects are in view over the whole clip, 10 to 40 pixels large at 64 pixels, and do not hide
each other much. Everything is a function of the seed or generator that is passed in.
"""

import itertools
import math
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from csd_lab.world.scene import (
    BASE_FOCAL,
    COLOURS,
    KINDS,
    PAINTABLE,
    PLAIN_GROUNDS,
    SEASONS,
    SKIES,
    Camera,
    Scene,
    Thing,
)

HELD_OUT_SEED = 10**9
"""Scene seeds below are for training, this one and those above for evaluation."""

SIZES = {  # metres
    "ball": (1.15, 1.7),
    "box": (1.25, 1.75),
    "cone": (1.2, 1.7),
    "tree": (2.0, 2.9),
    "house": (1.9, 2.5),
}
HALF_WIDTHS = {"ball": 0.5, "box": 0.55, "cone": 0.52, "tree": 0.34, "house": 0.6}
DISTANCES = (3.9, 6.0)
NEAREST = 3.3  # metres
EDGE = 0.47  # objects keep within this distance of the middle column, in image heights


def as_generator(seed: int | np.random.Generator) -> np.random.Generator:
    """Return the generator itself, or a new one from an integer seed."""
    return seed if isinstance(seed, np.random.Generator) else np.random.default_rng(seed)


def sample_scene(
    seed: int | np.random.Generator,
    objects: int | None = None,
    kinds: tuple[str, ...] = KINDS,
    moving: bool | None = None,
) -> Scene:
    """Draw an ordinary scene, for pictures and clips.

    Args:
        seed: integer seed, or a generator that is advanced.
        objects: number of objects, 1 to 3; None draws it.
        kinds: the kinds to draw from, each at most once a scene.
        moving: True moves balls, boxes and cones over the clip (where there are none, the camera),
            False trucks the camera, None draws it.

    Returns:
        A scene without a look.
    """
    rng = as_generator(seed)
    if objects is not None and not 1 <= objects <= min(3, len(kinds)):
        raise ValueError(
            f"objects must be 1 to {min(3, len(kinds))} (at most one a kind), got {objects}"
        )
    scene = _landscape(rng)
    camera = Camera(
        position=(0.0, rng.uniform(1.05, 1.4), 0.0),
        pitch=rng.uniform(-0.09, 0.0),
        focal=BASE_FOCAL,
    )
    objects_move = bool(rng.random() < 0.5) if moving is None else moving
    truck = (0.0, 0.0, 0.0) if objects_move else _truck(rng)
    scene = replace(scene, camera=camera, truck=truck)
    count = objects if objects is not None else int(rng.choice(3, p=(0.35, 0.45, 0.20))) + 1
    return _arrange(rng, scene, min(count, len(kinds)), kinds, objects_move)


def sample_panorama(
    seed: int | np.random.Generator,
    aspect: float = 8.0,
    ring: bool = False,
    objects: int | None = None,
) -> Scene:
    """Draw a scene for `render_panorama`, with objects all along it.

    Objects of one kind have one colour, so that "make the ball red" has one meaning in every
    window. Where the ordinary focal length would go round more than once, or for a ring, the
    focal length is chosen so that the picture goes round exactly, and distances grow with it:
    objects look as large as in ordinary scenes.

    Args:
        seed: integer seed, or a generator that is advanced.
        aspect: width of the panorama in heights, 1 to 16.
        ring: go round exactly once, so that the left and right edges meet.
        objects: number of objects; None for one a height of width.

    Returns:
        A scene without a look.
    """
    if not 1 <= aspect <= 16:
        raise ValueError(f"aspect must be 1 to 16 heights, got {aspect}")
    rng = as_generator(seed)
    ring = ring or aspect / BASE_FOCAL > 2 * math.pi
    focal = aspect / (2 * math.pi) if ring else BASE_FOCAL
    detail = focal / BASE_FOCAL
    camera = Camera(
        position=(0.0, rng.uniform(1.05, 1.4), 0.0),
        pitch=rng.uniform(-0.09, 0.0) / detail,
        focal=focal,
    )
    count = objects if objects is not None else max(1, round(aspect))
    variety = rng.choice(KINDS, size=int(rng.choice(3, p=(0.2, 0.4, 0.4))) + 1, replace=False)
    colours = rng.choice(list(COLOURS), size=len(variety), replace=False)
    things = []
    slot = aspect / focal / count
    for index in range(count):
        which = int(rng.integers(len(variety)))
        azimuth = (index + 0.5 + rng.uniform(-0.12, 0.12)) * slot - aspect / focal / 2
        thing = _thing(rng, str(variety[which]), str(colours[which]))
        distance = rng.uniform(*DISTANCES) * detail
        x, z = distance * math.sin(azimuth), -distance * math.cos(azimuth)
        things.append(replace(thing, x=x, z=z, striped=False, variant=int(colours[which] < "m")))
    return replace(_landscape(rng), camera=camera, detail=detail, objects=tuple(things))


def _landscape(rng: np.random.Generator) -> Scene:
    """Draw sky, ground, season, time and light."""
    season = str(rng.choice(list(SEASONS), p=(0.70, 0.10, 0.10, 0.10)))
    ground = str(rng.choice(PLAIN_GROUNDS)) if season == "summer" else SEASONS[season][0]
    return Scene(
        sky=str(rng.choice(list(SKIES), p=(0.25, 0.15, 0.15, 0.15, 0.15, 0.15))),
        ground=ground,
        season=season,
        time="night" if rng.random() < 0.1 else "day",
        sun=(float(rng.uniform(-math.pi, math.pi)), float(rng.uniform(0.65, 1.1))),
        cloud_seed=int(rng.integers(2**31)),
        texture_seed=int(rng.integers(2**31)),
    )


def _truck(rng: np.random.Generator) -> tuple[float, float, float]:
    """Draw a sideways move of the camera that keeps turning towards the objects."""
    side = float(rng.choice((-1.0, 1.0)) * rng.uniform(0.7, 1.4))
    return side, float(rng.uniform(-0.5, 0.3)), -side / 5.0 * float(rng.uniform(0.7, 1.1))


def _thing(rng: np.random.Generator, kind: str, colour: str) -> Thing:
    """Draw an object of a kind and colour at the origin."""
    return Thing(
        kind=kind,
        colour=colour,
        x=0.0,
        z=0.0,
        size=float(rng.uniform(*SIZES[kind])),
        yaw=float(rng.uniform(0, 2 * math.pi)),
        striped=bool(kind in PAINTABLE and rng.random() < 0.2),
        variant=int(rng.integers(2)),
    )


def _arrange(
    rng: np.random.Generator, scene: Scene, count: int, kinds: tuple[str, ...], moving: bool
) -> Scene:
    """Draw objects of different kinds until all are in view and apart over the whole clip."""
    weights = np.array([{"tree": 0.7, "house": 0.55}.get(kind, 1.0) for kind in kinds])
    chosen = rng.choice(kinds, size=count, replace=False, p=weights / weights.sum())
    colours = rng.choice(list(COLOURS), size=count, replace=False)
    things = [_thing(rng, str(k), str(c)) for k, c in zip(chosen, colours, strict=True)]
    if moving and not any(thing.kind in PAINTABLE for thing in things):
        scene = replace(scene, truck=_truck(rng))  # trees and houses stay: move the camera
    freedom = 1.0
    while True:
        numbers = rng.uniform(-1, 1, size=(count, 4))
        places = _places(scene, things, numbers, freedom, moving)
        dx, dz, turn = (freedom * t for t in scene.truck)
        if all(_well_placed(places, scene.camera, (dx, dz, turn), m) for m in (0.0, 0.5, 1.0)):
            break
        freedom *= 0.96  # towards still objects far away in the middle of their slots: that fits
    placed = (
        replace(thing, x=p.x, z=p.z, velocity=(p.vx, p.vz))
        for thing, p in zip(things, places, strict=True)
    )
    return replace(scene, objects=tuple(placed), truck=(dx, dz, turn))


class _Place(NamedTuple):
    """Where an object starts, how it moves over a clip, and half its width, in metres."""

    x: float
    z: float
    vx: float
    vz: float
    half: float


def _places(
    scene: Scene, things: list[Thing], numbers: np.ndarray, freedom: float, moving: bool
) -> list[_Place]:
    """Give each object a share of the picture's width, and a place in it.

    Args:
        scene: gives the focal length.
        things: the objects, left to right.
        numbers: what decides place and motion, (len(things), 4), in [-1, 1].
        freedom: in [0, 1]; how far objects may be from the far middle of their share, and move.
        moving: whether balls, boxes and cones move.

    Returns:
        The places.
    """
    crowd = (1.0, 1.0, 1.25)[len(things) - 1]
    reach = [crowd * (1.25 if t.kind in ("tree", "house") else 1.0) for t in things]
    halves = [HALF_WIDTHS[t.kind] * t.size for t in things]
    shares = [half / r for half, r in zip(halves, reach, strict=True)]
    left, places = -EDGE, []
    for thing, r, half, share, row in zip(
        things, reach, halves, shares, numbers.tolist(), strict=True
    ):
        width = 2 * EDGE * share / sum(shares)
        across, nearness, vx, vz = (freedom * n for n in (row[0], 0.5 - 0.5 * row[1], *row[2:]))
        middle = left + width / 2 + 0.45 * across * width
        depth = r * (DISTANCES[1] - (DISTANCES[1] - DISTANCES[0]) * nearness)
        speed = 1.0 if moving and thing.kind in PAINTABLE else 0.0
        x = middle * depth / scene.camera.focal
        places.append(_Place(x, -depth, 1.8 * speed * vx, 0.8 * speed * vz, half))
        left += width
    return places


def _well_placed(
    places: list[_Place], camera: Camera, truck: tuple[float, float, float], moment: float
) -> bool:
    """Tell whether all objects are within the picture and none hides another much."""
    cos, sin = math.cos(moment * truck[2]), math.sin(moment * truck[2])
    extents = []
    for x, z, vx, vz, half in places:
        dx, dz = x + moment * (vx - truck[0]), z + moment * (vz - truck[1])
        depth, across = sin * dx - cos * dz, cos * dx + sin * dz
        if depth < NEAREST:
            return False
        extents.append(
            (camera.focal * (across - half) / depth, camera.focal * (across + half) / depth)
        )
    extents.sort()
    if extents[0][0] < -EDGE or any(high > EDGE for _, high in extents):
        return False
    return all(
        high - low <= 0.12 * min(end - low, 0.3)
        for (_, high), (low, end) in itertools.pairwise(extents)
    )
