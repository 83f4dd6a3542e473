"""Perceptual distances with the formula of LPIPS, and the metrics that use them.

LPIPS (Zhang et al. 2018, "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric",
arXiv 1801.03924, equation 1): features of several layers of a network, scaled to unit length over
the channels; squared differences, weighted a channel, summed over channels, averaged over space,
summed over layers. Here with the paper's networks and learned weights (alex, vgg, squeeze), or,
under its own name, on the tiny CLIP's feature maps with all weights 1.

The weights are not negative, so this is a squared Euclidean distance: with u_l the unit features of
layer l, of h_l x w_l places, and w_lc the weight of its channel c,

    LPIPS(a, b) = sum_l 1 / (h_l w_l) sum_xy sum_c w_lc (u_lcxy(a) - u_lcxy(b))^2
                = |phi(a) - phi(b)|^2,    phi_lcxy = sqrt(w_lc / (h_l w_l)) u_lcxy

and whatever compares points of R^F by their distance compares images by LPIPS on phi.
"""

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, final

import lpips
import torch
import torchvision.models as torchvision_models
from torch import Tensor, nn

from csd_lab.checks import check_whole
from csd_lab.metrics.base import (
    TWO_FRAMES,
    ArtefactMetric,
    check_frames,
    clip_mean,
    images_at_once,
    minimum_size,
)
from csd_lab.metrics.encoders import OpenClip
from csd_lab.text import on_one_line
from csd_lab.types import Artefact

SMALLEST = 32
"""Pixels below which a network's last layer is empty."""

_UNIT_EPSILON = 1e-10


def unit_difference(a: Sequence[Tensor], b: Sequence[Tensor]) -> Tensor:
    """LPIPS' formula with every channel's weight 1.

    Args:
        a: feature maps of L layers, (B, C_l, h_l, w_l).
        b: the same of the other images.

    Returns:
        (B,), in [0, 4 L]; in [0, 2 L] for maps that are nowhere negative.
    """
    distances = [
        (_unit(x) - _unit(y)).square().sum(1).mean((1, 2)) for x, y in zip(a, b, strict=True)
    ]
    return torch.stack(distances).sum(0)


def _unit(features: Tensor) -> Tensor:
    return features / (features.norm(dim=1, keepdim=True) + _UNIT_EPSILON)


def embedding(maps: Sequence[Tensor], weights: Sequence[Tensor] | None = None) -> Tensor:
    """Rows phi whose squared Euclidean distance is LPIPS. Differentiable in the maps.

    Args:
        maps: feature maps of L layers, (B, C_l, h_l, w_l).
        weights: of each layer's channels, (C_l,), >= 0; None: all 1, as in ``unit_difference``.

    Returns:
        (B, F), F the sum of all C_l h_l w_l.
    """
    rows = []
    for layer, features in enumerate(maps):
        unit = _unit(features) / features[0, 0].numel() ** 0.5
        if weights is not None:
            unit = unit * weights[layer].sqrt()[:, None, None]
        rows.append(unit.flatten(1))
    return torch.cat(rows, dim=1)


class PerceptualDistance(nn.Module, ABC):
    """A distance between images, frozen.

    Args:
        tag: short name of the network, part of the name of every metric that uses it.
        max_batch: pairs in one forward pass, at most; fewer if they are large.
    """

    def __init__(self, tag: str, max_batch: int = 16) -> None:
        super().__init__()
        check_whole("max_batch", max_batch)
        self.tag = tag
        self.max_batch = max_batch

    @abstractmethod
    def _embed(self, images: Tensor) -> Tensor:
        """Rows phi of one chunk, wherever its images are: (B, F)."""

    @abstractmethod
    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        """The distance of one chunk, wherever its images are: (B,)."""

    @torch.no_grad()
    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        """Distance of each image of ``a`` to the one of ``b``, at their own size.

        Args:
            a: (B, 3, H, W) in [0, 1], at least 32 x 32.
            b: the same.

        Returns:
            (B,), 0 for equal images.

        Raises:
            ValueError: images of different shapes, too small, or out of range.
        """
        check_frames("images", a)
        check_frames("images", b)
        if a.shape != b.shape or min(a.shape[-2:]) < SMALLEST:
            shapes = f"{tuple(a.shape)} and {tuple(b.shape)}"
            raise ValueError(
                f"images must have one shape of at least {SMALLEST} x {SMALLEST}, got {shapes}"
            )
        size = images_at_once(a, self.max_batch)
        pairs = zip(a.split(size), b.split(size), strict=True)
        return torch.cat([self._distance(x, y) for x, y in pairs])

    @final
    def embed(self, images: Tensor) -> Tensor:
        """Rows phi, whose squared Euclidean distance is the distance of two images.

        Differentiable in the images; call it under ``torch.no_grad`` else.

        Args:
            images: (B, 3, H, W) in [0, 1], at least 32 x 32.

        Returns:
            (B, F), where the network is; F grows with H W.

        Raises:
            ValueError: images too small, or out of range.
        """
        check_frames("images", images.detach())
        if min(images.shape[-2:]) < SMALLEST:
            raise ValueError(
                f"images must be at least {SMALLEST} x {SMALLEST}, got {tuple(images.shape)}"
            )
        size = images_at_once(images, self.max_batch)
        return torch.cat([self._embed(some) for some in images.split(size)])


@final
class ClipFeatureDistance(PerceptualDistance):
    """LPIPS' formula on a CLIP's ModifiedResNet, without learned weights: ``lpips_tiny``.

    Layers: the stem and the four stages, after their ReLU. Unlike real LPIPS it was not fitted
    to human judgements; values are comparable with each other only.

    Args:
        encoder: a CLIP with a ModifiedResNet; the embedded one gives the tag "tiny".
        max_batch: pairs in one forward pass, at most; fewer if they are large.

    Raises:
        ValueError: another kind of vision tower.
    """

    def __init__(self, encoder: OpenClip, max_batch: int = 16) -> None:
        super().__init__(encoder.tag, max_batch)
        encoder.require_stages()
        self.encoder = encoder

    def _embed(self, images: Tensor) -> Tensor:
        return embedding(self.encoder.stages(images))

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        return unit_difference(self.encoder.stages(a), self.encoder.stages(b))


@final
class Lpips(PerceptualDistance):
    """Real LPIPS, version 0.1 with the learned weights, by the package of its authors.

    The trunk is torchvision's ImageNet network, read from the local checkpoints of torch.hub and
    never downloaded here; all files are read with ``weights_only``.

    Args:
        net: "alex" (the authors' choice for measuring), "vgg" or "squeeze".
        device: where the network runs.
        max_batch: pairs in one forward pass, at most; fewer if they are large.

    Raises:
        ValueError: unknown network, or its trunk's weights are missing or damaged.
    """

    TRUNKS: ClassVar[dict[str, Any]] = {
        "alex": ("alexnet", torchvision_models.AlexNet_Weights.IMAGENET1K_V1),
        "vgg": ("vgg16", torchvision_models.VGG16_Weights.IMAGENET1K_V1),
        "squeeze": ("squeezenet1_1", torchvision_models.SqueezeNet1_1_Weights.IMAGENET1K_V1),
    }

    def __init__(
        self, net: str = "alex", device: str | torch.device = "cpu", max_batch: int = 16
    ) -> None:
        super().__init__(net, max_batch)
        if net not in self.TRUNKS:
            raise ValueError(f"net must be one of {list(self.TRUNKS)}, got {net!r}")
        file, remedy = self._trunk_file(net), self._remedy(net)
        trunk = _read_weights(file, remedy)
        linear = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{net}.pth"
        # Built with random weights: the package's own loading would unpickle and download.
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="torchvision")  # it names arguments as of old
            network = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False)
        learned = _read_weights(linear, "reinstall the lpips package")
        try:
            self._fill(network, trunk, learned)
        except (KeyError, RuntimeError) as error:
            raise _damaged(file, error, remedy) from error
        self.network = network.to(device).eval().requires_grad_(False)

    @classmethod
    def _trunk_file(cls, net: str) -> Path:
        return Path(torch.hub.get_dir()) / "checkpoints" / Path(cls.TRUNKS[net][1].url).name

    @classmethod
    def _remedy(cls, net: str) -> str:
        call = f"torchvision.models.{cls.TRUNKS[net][0]}(weights='IMAGENET1K_V1')"
        return f"call {call} once while connected, or use backbone=tiny, which needs no download"

    @staticmethod
    def _fill(network: nn.Module, trunk: dict[str, Tensor], linear: dict[str, Tensor]) -> None:
        """Puts the weights in place: slices of the package are named by torchvision's indices."""
        state = dict(linear)
        for key in network.state_dict():
            if key.startswith("net."):
                state[key] = trunk[re.sub(r"^net\.slice\d+\.", "features.", key)]
            elif alias := re.match(r"lins\.(\d+)\.(.*)", key):
                state[key] = linear[f"lin{alias[1]}.{alias[2]}"]
            elif key.startswith("scaling_layer."):
                state[key] = network.state_dict()[key]
        network.load_state_dict(state, strict=True)

    def _embed(self, images: Tensor) -> Tensor:
        # not by the package's own scaling to unit length, which has no gradient at 0
        maps = self.network.net(self.network.scaling_layer(2 * self._ready(images) - 1))
        return embedding(maps, [layer.model[-1].weight.flatten() for layer in self.network.lins])

    def _distance(self, a: Tensor, b: Tensor) -> Tensor:
        return self.network(self._ready(a), self._ready(b), normalize=True).flatten()

    def _ready(self, images: Tensor) -> Tensor:
        return images.to(self.network.scaling_layer.shift.device, torch.float32)


def _read_weights(path: Path, remedy: str) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"weights of lpips are missing: {path} does not exist; {remedy}")
    try:
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # zip, pickle, runtime and end-of-file errors of a damaged file
        raise _damaged(path, error, remedy) from error


def _damaged(path: Path, error: Exception, remedy: str) -> ValueError:
    reason = on_one_line(f"{type(error).__name__}: {error}")[:120]
    return ValueError(f"weights of lpips are damaged: {path} ({reason}); delete it, then {remedy}")


def perceptual_distance(
    backbone: str = "tiny", device: str | torch.device = "cpu"
) -> PerceptualDistance:
    """The distance of a backbone's name.

    Args:
        backbone: "tiny" (LPIPS' formula on the embedded CLIP), or real LPIPS with "alex", "vgg"
            or "squeeze", whose weights must be there.
        device: where the network runs.

    Raises:
        ValueError: unknown backbone, or its weights are missing.
    """
    if backbone == "tiny":
        return ClipFeatureDistance(OpenClip("embedded", device=device))
    if backbone not in Lpips.TRUNKS:
        allowed = ["tiny", *Lpips.TRUNKS]
        raise ValueError(f"backbone must be one of {allowed}, got {backbone!r}")
    return Lpips(backbone, device)


class DistanceMetric(ArtefactMetric):
    """A metric on a perceptual distance, whose tag becomes part of the name.

    Args:
        distance: the network; share one between metrics, it is not copied.
    """

    unit = "distance"
    higher_is_better = False
    plot_lower_bound = 0.0

    def __init__(self, distance: PerceptualDistance) -> None:
        super().__init__(distance.tag)
        self.distance = distance


@final
class LpipsSource(DistanceMetric):
    """Perceptual distance of edited frames to their source frames, mean over frames.

    0 for a clip that was not edited at all: read it beside a metric of the edit.
    """

    basename = "lpips_source"
    needs = (minimum_size(SMALLEST),)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return self.distance(artefact.edited, artefact.task.source)


@final
class LpipsConsecutive(DistanceMetric):
    """Perceptual distance of neighbouring edited frames, mean over a clip's, then over clips.

    Motion counts as well as flicker: compare only with other edits of the same source.
    """

    basename = "lpips_consecutive"
    needs = (TWO_FRAMES, minimum_size(SMALLEST))
    pool = staticmethod(clip_mean)

    def _per_frame(self, artefact: Artefact) -> Tensor:
        return self.distance(artefact.edited[:-1], artefact.edited[1:])
