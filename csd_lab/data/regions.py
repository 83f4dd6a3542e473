"""Region prompts as a user writes them: plain values, and mask images in files."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from csd_lab.canvas import Box, Mask, PromptedRegion, Region, Strip
from csd_lab.checks import check_text
from csd_lab.data.base import expanded
from csd_lab.data.media import read_image

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in the grey of ITU-R BT.601."""

EXAMPLE = "{prompt: make it night, box: [0, 0, 1, 0.5]}"


def read_regions(regions: Sequence[Mapping[str, Any]] | None) -> tuple[PromptedRegion, ...]:
    """Regions with their prompts.

    Args:
        regions: each a ``prompt`` and one of

            - ``box``: [top, left, bottom, right], as shares of the image from 0 to 1;
            - ``strip``: [k, n], the k-th of n equally wide upright strips, k from 0;
            - ``mask``: an image file, white where the prompt holds, laid over the whole image; its
              transparent parts count as black.

            None: no regions.

    Raises:
        MediaError: if a mask cannot be read.
        ValueError: if a region is none of these.
    """
    return tuple(_region(index, each) for index, each in enumerate(regions or ()))


def _region(index: int, given: Any) -> PromptedRegion:
    name = f"regions[{index}]"
    keys = set(given) if isinstance(given, Mapping) else set()
    if len(keys) != 2 or "prompt" not in keys or not keys & AREAS.keys():
        raise ValueError(
            f"{name} must be a prompt with one of {', '.join(AREAS)}, such as {EXAMPLE}, got "
            f"{given!r}."
        )
    check_text(f"{name}.prompt", given["prompt"])
    (kind,) = keys - {"prompt"}
    try:
        return PromptedRegion(given["prompt"], AREAS[kind](given[kind]))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}.{kind}: {error}") from error


def _box(sides: Any) -> Region:
    if not _are(sides, 4, int | float):
        raise ValueError(f"a box is [top, left, bottom, right], shares from 0 to 1, got {sides}")
    return Box(*sides)


def _strip(place: Any) -> Region:
    if not _are(place, 2, int):
        raise ValueError(f"a strip is [k, n], the k-th of n strips, got {place}")
    return Strip(*place)


def _are(given: Any, count: int, kind: Any) -> bool:
    """Whether so many numbers of a kind are given."""
    listed = isinstance(given, Sequence) and not isinstance(given, str) and len(given) == count
    return listed and all(isinstance(each, kind) and not isinstance(each, bool) for each in given)


def _mask(path: str) -> Region:
    check_text("a mask", path)
    image = read_image(expanded(path), background=(0.0, 0.0, 0.0)).image
    return Mask(sum(weight * channel for weight, channel in zip(LUMA, image, strict=True)))


AREAS: dict[str, Callable[[Any], Region]] = {"box": _box, "strip": _strip, "mask": _mask}
"""What a region may be, by the key that it is written with."""
