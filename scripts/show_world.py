"""Write pictures of the procedural world, for people to look at.

    python scripts/show_world.py world_pictures --seed 0

writes scenes.png, clips.png, edits.png, panoramas.png, views.png and textures.png.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from csd_lab import world

PAPER = (250, 250, 248)
INK = (40, 40, 44)
GAP = 6
LABEL = 14


def to_image(picture: Tensor, zoom: int) -> Image.Image:
    """Return a picture (3, H, W) in [0, 1] as an enlarged Pillow image."""
    pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    image = Image.fromarray(pixels)
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def row_of(pictures: Sequence[Tensor], zoom: int, label: str) -> Image.Image:
    """Return pictures side by side under a line of text."""
    images = [to_image(p, zoom) for p in pictures]
    width = sum(i.width + GAP for i in images) + GAP
    sheet = Image.new("RGB", (width, images[0].height + GAP + LABEL), PAPER)
    ImageDraw.Draw(sheet).text((GAP, 1), label, fill=INK)
    left = GAP
    for image in images:
        sheet.paste(image, (left, LABEL))
        left += image.width + GAP
    return sheet


def stack(rows: Sequence[Image.Image], columns: int = 1) -> Image.Image:
    """Return rows below each other, in columns."""
    width, height = max(r.width for r in rows), max(r.height for r in rows)
    lines = math.ceil(len(rows) / columns)
    sheet = Image.new("RGB", (width * columns, height * lines + GAP), PAPER)
    for index, row in enumerate(rows):
        sheet.paste(row, (width * (index % columns), height * (index // columns)))
    return sheet.crop((0, 0, sheet.width, height * (lines - 1) + rows[-1].height + GAP))


def scenes(seed: int) -> Image.Image:
    """Return ordinary scenes with their captions."""
    drawn = [world.sample_scene(seed + k) for k in range(32)]
    pictures = world.render_images(drawn, size=96)
    rows = [row_of(pictures[k : k + 8].unbind(), 2, "") for k in range(0, 32, 8)]
    return stack(rows)


def clips(seed: int) -> Image.Image:
    """Return clips, half with moving objects and half with a moving camera."""
    rows = []
    for k in range(8):
        scene = world.sample_scene(seed + k, moving=k % 2 == 0)
        frames = world.render_clip(scene, frames=8)
        rows.append(row_of(frames.unbind(), 2, world.caption(scene)))
    return stack(rows)


def edits(seed: int) -> Image.Image:
    """Return every instruction: a scene on the left, its right answers beside it."""
    sheets = []
    for many, columns in ((False, 6), (True, 2)):
        rows = []
        for index, instruction in enumerate(world.instructions(many)):
            task = world.edit_task(seed + index, instruction, frames=1, size=96)
            if task.targets is None:
                raise RuntimeError(f"the world gave no targets for {instruction!r}")
            rows.append(row_of([task.source[0], *task.targets[:, 0]], 1, instruction))
        sheets.append(stack(rows, columns))
    return stack(sheets)


def panoramas(seed: int) -> Image.Image:
    """Return panoramas, the last two of which go round exactly once."""
    rows = []
    for k in range(5):
        scene = world.sample_panorama(seed + k, aspect=12, ring=k > 2)
        picture = world.render_panorama(scene, 64, 768)
        rows.append(row_of([picture], 2, world.caption(scene) + (" (ring)" if k > 2 else "")))
    return stack(rows)


def views(seed: int) -> Image.Image:
    """Return posed views around one scene, and their depth."""
    scene = world.sample_scene(seed, objects=3)
    middle = sum(thing.z for thing in scene.objects) / len(scene.objects)
    cameras = []
    for angle in np.linspace(-0.9, 0.9, 8):
        x, z = -math.sin(angle) * -middle, middle + math.cos(angle) * -middle
        position = (x, scene.camera.position[1] + 0.6, z)
        cameras.append(replace(scene.camera, position=position, yaw=float(angle), pitch=-0.2))
    pictures = world.render_views(scene, cameras, 96, 96)
    near = (1 / world.render_depth(scene, cameras, 96, 96)).clamp(max=0.4) / 0.4
    depth = near[:, None].expand(-1, 3, -1, -1)
    rows = [row_of(pictures.unbind(), 2, "views"), row_of(depth.unbind(), 2, "inverse depth")]
    return stack(rows)


def textures(seed: int) -> Image.Image:
    """Return procedural textures."""
    pictures = world.textures(range(seed, seed + 32))
    return stack([row_of(pictures[k : k + 8].unbind(), 2, "") for k in range(0, 32, 8)])


def main() -> None:
    parser = argparse.ArgumentParser(description="Write pictures of the procedural world.")
    parser.add_argument("folder", type=Path, help="where the pictures go")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for sheet in (scenes, clips, edits, panoramas, views, textures):
        path = arguments.folder / f"{sheet.__name__}.png"
        sheet(arguments.seed).save(path)
        print(path)


if __name__ == "__main__":
    main()
