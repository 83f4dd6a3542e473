"""From a scene to pixels, depth, panoramas and clips, by analytic ray intersection.

Every ray is tested against the ground plane, the sky dome and the convex parts of the objects
(`solids.py`) that its direction comes near; Lambert shading, an ambient term, and shadows whose
darkness grows with the length of the sun ray inside the occluder, which makes their edges soft.
Antialiasing: the mean over a regular grid of rays a pixel.

Scenes are rendered one after another, on purpose: a picture is then bit-identical whatever else
is in the batch, temporaries stay in the cache, and each object costs only the rays near it.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from csd_lab.world.looks import apply_look
from csd_lab.world.scene import COLOURS, GROUNDS, SEASONS, SKIES, Camera, Scene, Thing
from csd_lab.world.solids import Frustum, Rays, Solid, Sphere, Vector, cuboid, roof

RGB = tuple[float, float, float]
AMBIENT = 0.70
SHADOW = 0.38
HAZE_DISTANCE = 28.0
WALL: RGB = (0.93, 0.86, 0.74)
TRUNK: RGB = (0.40, 0.26, 0.16)
NIGHT: RGB = (0.42, 0.46, 0.68)
NIGHT_SKY: RGB = (0.28, 0.30, 0.44)


class Part(NamedTuple):
    """A solid of one colour; ``door`` is the colour of a door in its z faces, if it has one."""

    solid: Solid
    colour: RGB
    door: RGB | None = None


def render_images(scenes: Sequence[Scene], size: int = 64, supersample: int = 2) -> Tensor:
    """Render scenes through their own cameras as square pictures.

    Args:
        scenes: B scenes.
        size: height and width in pixels.
        supersample: rays along each side of a pixel.

    Returns:
        Pictures, (B, 3, size, size), float32 in [0, 1].
    """
    _check_positive(size=size, supersample=supersample)
    if not scenes:
        return torch.empty(0, 3, size, size)
    return torch.stack([_picture(s, s.camera, size, size, supersample, False) for s in scenes])


def render_clip(scene: Scene, frames: int = 8, size: int = 64, supersample: int = 2) -> Tensor:
    """Render a clip; frame k shows ``scene.at(k / (frames - 1))``.

    Args:
        scene: the scene at the start of the clip.
        frames: number of frames F.
        size: height and width in pixels.
        supersample: rays along each side of a pixel.

    Returns:
        Frames, (F, 3, size, size), float32 in [0, 1].
    """
    _check_positive(frames=frames)
    moments = [k / max(frames - 1, 1) for k in range(frames)]
    return render_images([scene.at(m) for m in moments], size, supersample)


def render_panorama(
    scene: Scene, height: int = 64, width: int = 512, supersample: int = 2
) -> Tensor:
    """Render a cylindrical panorama around the scene's camera.

    A pixel is as wide as high (1 / (focal * height) radians), so that windows look like ordinary
    pictures. The camera's yaw is the middle column; its pitch shifts the horizon. With
    focal = width / (2 pi height), see `sample_panorama`, the picture is a full ring: column 0
    continues column width - 1.

    Args:
        scene: the scene.
        height: height in pixels.
        width: width in pixels.
        supersample: rays along each side of a pixel.

    Returns:
        The panorama, (3, height, width), float32 in [0, 1].
    """
    _check_positive(height=height, width=width, supersample=supersample)
    return _picture(scene, scene.camera, height, width, supersample, True)


def render_views(
    scene: Scene, cameras: Sequence[Camera], height: int = 64, width: int = 64, supersample: int = 2
) -> Tensor:
    """Render one scene through explicit pinhole cameras.

    Args:
        scene: the scene; its own camera is ignored.
        cameras: V cameras.
        height: height in pixels.
        width: width in pixels.
        supersample: rays along each side of a pixel.

    Returns:
        Views, (V, 3, height, width), float32 in [0, 1].
    """
    _check_positive(height=height, width=width, supersample=supersample)
    if not cameras:
        return torch.empty(0, 3, height, width)
    return torch.stack([_picture(scene, c, height, width, supersample, False) for c in cameras])


def render_depth(
    scene: Scene, cameras: Sequence[Camera], height: int = 64, width: int = 64
) -> Tensor:
    """Return exact distances through explicit pinhole cameras.

    Args:
        scene: the scene; its own camera is ignored.
        cameras: V cameras.
        height: height in pixels.
        width: width in pixels.

    Returns:
        Distances in metres along the rays of the pixels' centres, (V, height, width), float32;
        infinite where the ray meets the sky.
    """
    _check_positive(height=height, width=width)
    if not cameras:
        return torch.empty(0, height, width)
    depths = [_trace(scene, camera_rays(c, height, width))[1] for c in cameras]
    return torch.stack(depths).reshape(len(cameras), height, width)


def camera_rays(
    camera: Camera, height: int, width: int, supersample: int = 1, cylinder: bool = False
) -> Rays:
    """Return the rays of a camera, row by row from the top left.

    Args:
        camera: the camera.
        height: height of the picture in pixels.
        width: width of the picture in pixels.
        supersample: rays along each side of a pixel.
        cylinder: cylindrical instead of pinhole projection.

    Returns:
        R = height * width * supersample^2 rays; origins are 0-dimensional.
    """
    rows, columns = height * supersample, width * supersample
    step = 1.0 / (camera.focal * rows)
    v = ((rows - 1) / 2 - torch.arange(rows, dtype=torch.float32)) * step
    u = (torch.arange(columns, dtype=torch.float32) - (columns - 1) / 2) * step
    if cylinder:
        across, away = torch.sin(camera.yaw + u), -torch.cos(camera.yaw + u)
        dx, dz = across.expand(rows, columns), away.expand(rows, columns)
        dy = (v + math.tan(camera.pitch))[:, None].expand(rows, columns)
    else:
        forward = math.cos(camera.pitch) - v[:, None] * math.sin(camera.pitch)
        dy = (math.sin(camera.pitch) + v * math.cos(camera.pitch))[:, None].expand(rows, columns)
        dx = math.sin(camera.yaw) * forward + math.cos(camera.yaw) * u
        dz = math.sin(camera.yaw) * u - math.cos(camera.yaw) * forward
    scale = (dx * dx + dy * dy + dz * dz).rsqrt()
    origin = torch.tensor(camera.position, dtype=torch.float32)
    directions = [(d * scale).reshape(-1) for d in (dx, dy, dz)]
    return Rays(origin[0], origin[1], origin[2], *directions)


def _picture(
    scene: Scene, camera: Camera, height: int, width: int, supersample: int, cylinder: bool
) -> Tensor:
    """Render one picture, (3, height, width)."""
    colour, _ = _trace(scene, camera_rays(camera, height, width, supersample, cylinder))
    colour = colour.reshape(1, 3, height * supersample, width * supersample)
    picture = avg_pool2d(colour, supersample)[0].clamp_(0, 1)
    return picture if scene.look is None else apply_look(scene.look, picture)


def _trace(scene: Scene, rays: Rays) -> tuple[Tensor, Tensor]:
    """Return colour (3, R) and distance (R,) of what the rays meet first."""
    # Without roll the sky is above the ground in every picture: two slices, no gathering.
    horizon = int((rays.dy >= 0).sum())
    sky, ground = rays.select(slice(horizon)), rays.select(slice(horizon, None))
    colour = torch.empty(3, rays.dx.numel())
    distance = torch.full((rays.dx.numel(),), math.inf)
    colour[:, :horizon] = _sky(scene, sky.dx, sky.dy, sky.dz)
    distance[horizon:] = -rays.oy / ground.dy
    colour[:, horizon:] = _ground(scene, ground, distance[horizon:])
    for thing in scene.objects:
        _draw(scene, thing, rays, colour, distance)
    return colour, distance


def _sky(scene: Scene, dx: Tensor, dy: Tensor, dz: Tensor) -> Tensor:
    """Return the colour of the sky dome with clouds and distant hills, (3, R)."""
    zenith, horizon = _sky_colours(scene)
    height = dy * scene.detail
    colour = _mix(_column(horizon), _column(zenith), (height / 0.42).clamp(0, 1).pow(0.8))
    waves = _waves(scene.cloud_seed, 5, 3, 3.0 * scene.detail, 9.0 * scene.detail)
    cloud = _smoothstep(_sum_waves(waves, (dx, 2.2 * dy, dz)), 0.05, 0.9)
    cloud = cloud * _smoothstep(height, 0.02, 0.16) * 0.62
    white = tuple(0.35 * h + 0.65 * w for h, w in zip(horizon, _light(scene), strict=True))
    colour = _mix(colour, _column(white), cloud)
    hills = _waves(scene.cloud_seed + 1, 4, 2, 2.0 * scene.detail, 8.0 * scene.detail)
    crest = 0.045 + 0.045 * _sum_waves(hills, (dx, dz))
    cover = _smoothstep(crest - height, -0.006, 0.006)
    return _mix(colour, _column(_far_ground(scene)), cover)


def _ground(scene: Scene, rays: Rays, distance: Tensor) -> Tensor:
    """Return the colour of the ground with mottling, shadows and haze, (3, R)."""
    base, accent = (
        tuple(c * n for c, n in zip(rgb, _light(scene), strict=True))
        for rgb in GROUNDS[scene.ground]
    )
    x, _, z = rays.point(distance)
    waves = _waves(scene.texture_seed, 5, 2, 0.9, 3.2)
    fade = torch.exp(-((distance / (9.0 * scene.detail)) ** 2))
    colour = _mix(_column(base), _column(accent), 0.5 + 0.5 * _sum_waves(waves, (x, z)) * fade)
    colour = colour * _sunlight(scene, x, z)
    haze = 1 - torch.exp(-distance / (HAZE_DISTANCE * scene.detail))
    return _mix(colour, _column(_far_ground(scene)), haze)


def _sunlight(scene: Scene, x: Tensor, z: Tensor) -> Tensor:
    """Return the light on ground points, (R,): 1 in the open, less in shadows."""
    light = torch.ones_like(x)
    sx, sy, sz = _sun_direction(scene)
    strength = SHADOW * (1.0 if scene.time == "day" else 0.6)
    for thing in scene.objects:
        height, reach = _bounds(thing)
        cx, cz = thing.x - x, thing.z - z
        contact = 0.28 * torch.exp(-(cx * cx + cz * cz) / (0.5 * thing.size) ** 2)
        along = cx * sx + (height / 2) * sy + cz * sz
        apart = cx * cx + cz * cz + (height / 2) ** 2 - along * along
        near = ((apart < reach * reach) & (along > 0)).nonzero()[:, 0]
        shadow = torch.zeros_like(x)
        shadow[near] = _occlusion(thing, x[near], z[near], (sx, sy, sz))
        light = light * (1 - contact) * (1 - strength * shadow)
    return light


def _occlusion(thing: Thing, x: Tensor, z: Tensor, sun: RGB) -> Tensor:
    """Return how much of the sun an object hides from ground points, (R,) in [0, 1]."""
    direction = [torch.tensor(component) for component in sun]
    rays = Rays(x, torch.tensor(1e-3), z, *direction).placed(thing.x, thing.z, thing.yaw)
    hidden = torch.zeros_like(x)
    for part in _parts(thing, "summer"):
        enter, leave = part.solid.span(rays)
        chord = leave - enter.clamp(min=0)
        hidden = torch.maximum(hidden, _smoothstep(chord, 0.0, 0.3 * thing.size))
    return hidden


def _draw(scene: Scene, thing: Thing, rays: Rays, colour: Tensor, distance: Tensor) -> None:
    """Draw an object into colour (3, R) and distance (R,) where it is nearest."""
    height, reach = _bounds(thing)
    cx, cy, cz = thing.x - rays.ox, height / 2 - rays.oy, thing.z - rays.oz
    along = cx * rays.dx + cy * rays.dy + cz * rays.dz
    apart = cx * cx + cy * cy + cz * cz - along * along
    near = ((apart < reach * reach) & (along > 0)).nonzero()[:, 0]
    local = rays.select(near).placed(thing.x, thing.z, thing.yaw)
    for part in _parts(thing, scene.season):
        enter, leave = part.solid.span(local)
        seen = ((enter < leave) & (enter > 0) & (enter < distance[near])).nonzero()[:, 0]
        hit, target = enter[seen], near[seen]
        distance[target] = hit
        colour[:, target] = _shade(scene, thing, part, local.select(seen).point(hit))


def _shade(scene: Scene, thing: Thing, part: Part, point: Vector) -> Tensor:
    """Return the colour of surface points given in the object's frame, (3, R)."""
    x, y, _ = point
    nx, ny, nz = part.solid.normal(point)
    sx, sy, sz = _sun_direction(scene, thing.yaw)
    lambert = (nx * sx + ny * sy + nz * sz).clamp(min=0)
    direct = 0.38 * (1.0 if scene.time == "day" else 0.7)
    light = AMBIENT + direct * lambert + 0.06 * ny
    albedo = _column(part.colour)
    if thing.striped:
        wave = 0.5 + 0.5 * torch.cos(y * (6 * math.pi / thing.size))
        albedo = _mix(albedo, _column((1.0, 1.0, 1.0)), 0.38 * _smoothstep(wave, 0.2, 0.8))
    if part.door is not None:
        door = (x.abs() < 0.11 * thing.size) & (y < 0.32 * thing.size) & (nz.abs() > 0.5)
        albedo = _mix(albedo, _column(part.door), door.to(x.dtype))
    return albedo * light * _column(_light(scene))


def _parts(thing: Thing, season: str) -> tuple[Part, ...]:
    """Return the coloured solids that make up an object."""
    s, colour = thing.size, COLOURS[thing.colour]
    if thing.kind == "ball":
        return (Part(Sphere(s / 2, s / 2), colour),)
    if thing.kind == "box":
        return (Part(cuboid(0.42 * s, 0.42 * s, 0.84 * s), colour),)
    if thing.kind == "cone":
        return (Part(Frustum(0.0, 1.15 * s, 0.52 * s, 0.0), colour),)
    if thing.kind == "tree":
        trunk = Part(Frustum(0.0, 0.42 * s, 0.065 * s, 0.055 * s), TRUNK)
        round_crown, pointed_crown = Sphere(0.67 * s, 0.33 * s), Frustum(0.26 * s, s, 0.34 * s, 0.0)
        return trunk, Part(pointed_crown if thing.variant else round_crown, SEASONS[season][1])
    walls = cuboid(0.42 * s, 0.38 * s, 0.52 * s)
    top = roof(0.52 * s, 0.46 * s, 0.50 * s, s, gable=bool(thing.variant))
    return Part(walls, WALL, door=colour), Part(top, colour)


def _bounds(thing: Thing) -> tuple[float, float]:
    """Return the height of an object and the radius of a sphere about its middle that holds it."""
    height = {"ball": 1.0, "box": 0.84, "cone": 1.15, "tree": 1.0, "house": 1.0}[thing.kind]
    half_width = {"ball": 0.0, "box": 0.60, "cone": 0.52, "tree": 0.34, "house": 0.70}[thing.kind]
    if thing.kind == "ball":
        return thing.size, 0.501 * thing.size
    return height * thing.size, 1.01 * math.hypot(height / 2, half_width) * thing.size


def _light(scene: Scene) -> RGB:
    """Return the colour of the light."""
    return (1.0, 1.0, 1.0) if scene.time == "day" else NIGHT


def _sky_colours(scene: Scene) -> tuple[RGB, RGB]:
    """Return the colours of zenith and horizon."""
    zenith, horizon = SKIES[scene.sky]
    if scene.time == "day":
        return zenith, horizon
    (zr, zg, zb), (hr, hg, hb), (r, g, b) = zenith, horizon, NIGHT_SKY
    return (zr * r, zg * g, zb * b + 0.06), (1.5 * hr * r, 1.5 * hg * g, 1.5 * hb * b + 0.06)


def _far_ground(scene: Scene) -> RGB:
    """Return the colour that the ground and the hills take on at a great distance."""
    light, horizon = _light(scene), _sky_colours(scene)[1]
    near = GROUNDS[scene.ground][0]
    r, g, b = (0.60 * 0.86 * n * c + 0.40 * h for n, c, h in zip(near, light, horizon, strict=True))
    return r, g, b


def _sun_direction(scene: Scene, yaw: float = 0.0) -> RGB:
    """Return the unit vector to the sun (at night: the moon), in a frame turned by ``yaw``."""
    azimuth, elevation = scene.sun
    flat = math.cos(elevation)
    return flat * math.sin(azimuth - yaw), math.sin(elevation), -flat * math.cos(azimuth - yaw)


@lru_cache(maxsize=4096)
def _waves(
    seed: int, count: int, axes: int, low: float, high: float
) -> tuple[tuple[float, tuple[float, ...], float], ...]:
    """Return plane waves of random direction: (amplitude, wave vector, phase); amplitudes sum to 1.

    A sum of waves is smooth, band-limited and, taken of directions, closed around the full ring.
    """
    rng = np.random.default_rng(seed)
    size = np.geomspace(low, high, count)
    vectors = rng.normal(size=(count, axes))
    vectors *= size[:, None] / np.linalg.norm(vectors, axis=1, keepdims=True)
    amplitude = size**-0.5 / (size**-0.5).sum()
    phase = rng.uniform(0, 2 * math.pi, count)
    return tuple(
        (float(a), tuple(map(float, k)), float(p))
        for a, k, p in zip(amplitude, vectors, phase, strict=True)
    )


def _sum_waves(
    waves: tuple[tuple[float, tuple[float, ...], float], ...], position: Sequence[Tensor]
) -> Tensor:
    """Evaluate plane waves, (R,) in [-1, 1]; the usual deviation is stretched to about 1/2."""
    total: Tensor | None = None
    for amplitude, vector, phase in waves:
        angle = position[0] * vector[0]
        for component, weight in zip(position[1:], vector[1:], strict=True):
            angle = torch.add(angle, component, alpha=weight)
        term = angle.add_(phase).sin_().mul_(1.6 * amplitude)
        total = term if total is None else total.add_(term)
    if total is None:
        raise ValueError("waves must be at least one, got none")
    return total.clamp_(-1, 1)


def _column(rgb: Sequence[float]) -> Tensor:
    """Return a colour as (3, 1)."""
    return torch.tensor(rgb, dtype=torch.float32)[:, None]


def _mix(start: Tensor, end: Tensor, weight: Tensor) -> Tensor:
    """Return start (1 - weight) + end weight, (3, R)."""
    return start + (end - start) * weight


def _smoothstep(value: Tensor, low: float, high: float) -> Tensor:
    """Return the cubic that rises from 0 at ``low`` to 1 at ``high``."""
    ramp = ((value - low) / (high - low)).clamp(0, 1)
    return ramp * ramp * (3 - 2 * ramp)


def _check_positive(**numbers: int) -> None:
    """Raise if one of the numbers is below 1."""
    for name, number in numbers.items():
        if number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}; pass a larger number")
