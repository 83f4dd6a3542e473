"""What several tests of the world measure."""

from dataclasses import replace

from torch import Tensor
from torch.nn.functional import max_pool2d

from csd_lab import world


def difference(one: Tensor, two: Tensor, threshold: float = 0.03) -> tuple[float, float]:
    """Return the colour difference in the region that differs, and that region's share."""
    distance = (one - two).square().mean(dim=0).sqrt()
    changed = distance > threshold
    if not changed.any():
        return 0.0, 0.0
    return distance[changed].mean().item(), changed.float().mean().item()


def cover(scene: world.Scene, size: int, kinds: tuple[str, ...] | None = None) -> Tensor:
    """Return which pixels' centres show an object, (size, size), bool; ``kinds``: of which kind."""
    chosen = tuple(o for o in scene.objects if kinds is None or o.kind in kinds)
    bare = world.render_depth(replace(scene, objects=()), [scene.camera], size, size)[0]
    return world.render_depth(replace(scene, objects=chosen), [scene.camera], size, size)[0] < bare


def grown(mask: Tensor, pixels: int) -> Tensor:
    """Return a mask (H, W) dilated by a number of pixels."""
    width = 2 * pixels + 1
    return max_pool2d(mask[None, None].float(), width, 1, pixels)[0, 0] > 0
