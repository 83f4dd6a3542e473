"""CLIP encoders (Radford et al. 2021, arXiv 2103.00020), all of them loaded by open_clip.

The embedded tiny encoder and the real ones go through the same code: images in [0, 1] are resized
to the network's square by plain bicubic interpolation (no antialiasing, aspect ratio not kept), as
Instruct-Pix2Pix's published metrics do, normalised with the network's own mean and deviation, and
features have unit length.
"""

import difflib
import logging
import os
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

import open_clip
import torch
from huggingface_hub import constants as hub_constants
from huggingface_hub.utils import get_session
from open_clip.modified_resnet import ModifiedResNet
from torch import Tensor, nn
from torch.nn.functional import interpolate

from csd_lab.checks import check_whole
from csd_lab.metrics.base import check_frames, images_at_once
from csd_lab.metrics.memory import once
from csd_lab.text import on_one_line

EMBEDDED_FOLDER = Path(__file__).parent.parent / "assets" / "clip"
"""The tiny CLIP that ships with the package, in open_clip's local-dir format."""

_SCHEMES = ("local-dir:", "hf-hub:")
_REACH_SECONDS = 5.0


class ClipEncoder(nn.Module, ABC):
    """Maps images and texts to unit vectors of one space.

    Attributes:
        tag: short name of the network and its weights; part of the name of every metric that uses
            it, so that numbers of different networks never share a name.
    """

    tag: str

    @abstractmethod
    def encode_images(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1], of any size -> unit features (B, E)."""

    @abstractmethod
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """B texts -> unit features (B, E)."""

    @final
    def images(self, images: Tensor) -> Tensor:
        """:meth:`encode_images`, computed once a tensor where metrics remember."""
        return once("features", (self, images), lambda: self.encode_images(images))

    @final
    def text(self, text: str) -> Tensor:
        """The unit feature of one text, (1, E), computed once where metrics remember."""
        return once(("feature", text), (self,), lambda: self.encode_texts([text]))


@final
class OpenClip(ClipEncoder):
    """A CLIP of open_clip, frozen, in float32.

    Weights are read from safetensors or with ``weights_only``: nothing is unpickled.

    Args:
        model: "embedded" (the tiny CLIP of this package, tag "tiny"), a model name of open_clip
            ("ViT-L-14", tag "l14"), "local-dir:FOLDER" or "hf-hub:ORGANISATION/NAME".
        pretrained: for an open_clip name, a tag of its weights ("openai") or a checkpoint file;
            None otherwise. OpenAI's weights leave the tag as it is, others add their name to it
            ("b32_laion2b_s34b_b79k").
        device: where the network runs; ``to`` moves it later.
        max_batch: images or texts in one forward pass; large images are resized fewer at once.

    Raises:
        ValueError: unknown model, missing or damaged weights, or a hub that cannot be reached.
    """

    def __init__(
        self,
        model: str = "embedded",
        pretrained: str | None = None,
        device: str | torch.device = "cpu",
        max_batch: int = 32,
    ) -> None:
        super().__init__()
        check_whole("max_batch", max_batch)
        _check_source(model, pretrained)
        self.tag = backbone_tag(model, pretrained)
        self.max_batch = max_batch
        self.model: Any
        self.model, self._tokenize = _load(model, pretrained)
        self.model.to(device).eval().requires_grad_(False)
        preprocess = self.model.visual.preprocess_cfg
        size = preprocess["size"]
        self.size = (size, size) if isinstance(size, int) else tuple(size)
        for name in ("mean", "std"):
            value = torch.tensor(preprocess[name], device=device).view(1, 3, 1, 1)
            self.register_buffer(name, value, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.get_buffer("mean").device

    def normalised(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [0, 1] in the units of the network, on its device, in float32."""
        check_frames("images", images)
        images = images.to(self.device, torch.float32)
        return (images - self.get_buffer("mean")) / self.get_buffer("std")

    @torch.no_grad()
    def encode_images(self, images: Tensor) -> Tensor:
        """See :class:`ClipEncoder`; without gradient."""
        return self.features(images)

    def features(self, images: Tensor) -> Tensor:
        """:meth:`encode_images`, differentiable in the images."""
        return torch.cat([self._encode(chunk) for chunk in images.split(self.max_batch)])

    def _encode(self, images: Tensor) -> Tensor:
        parts = images.split(images_at_once(images, self.max_batch))
        resized = torch.cat([self._resized(some) for some in parts])
        return self.model.encode_image(resized, normalize=True)

    def _resized(self, images: Tensor) -> Tensor:
        """Images in the units of the network, and of its size."""
        images = self.normalised(images)
        return interpolate(images, size=self.size, mode="bicubic", align_corners=False)

    @torch.no_grad()
    def encode_texts(self, texts: Sequence[str]) -> Tensor:
        """See :class:`ClipEncoder`; a text longer than the network's context is cut."""
        tokens = self._tokenize(list(texts)).to(self.device)
        chunks = tokens.split(self.max_batch)
        return torch.cat([self.model.encode_text(chunk, normalize=True) for chunk in chunks])

    def require_stages(self) -> ModifiedResNet:
        """The vision tower, if it is one that has stages.

        Raises:
            ValueError: it is no ModifiedResNet.
        """
        visual = self.model.visual
        if not isinstance(visual, ModifiedResNet):
            kind = type(visual).__name__
            raise ValueError(f"stages need a ModifiedResNet (embedded, RN50, ...), got a {kind}")
        return visual

    def stages(self, images: Tensor) -> list[Tensor]:
        """The feature maps of a ModifiedResNet's stem and four stages, at the images' own size.

        Differentiable in the images; call it under ``torch.no_grad`` else.

        Args:
            images: (B, 3, H, W) in [0, 1], at least 32 x 32.

        Returns:
            Five maps (B, C, h, w), after their ReLU, with h = H/4, H/4, H/8, H/16, H/32.

        Raises:
            ValueError: the vision tower is no ModifiedResNet.
        """
        visual = self.require_stages()
        maps, x = [], self.normalised(images)
        for stage in (visual.stem, visual.layer1, visual.layer2, visual.layer3, visual.layer4):
            x = stage(x)
            maps.append(x)
        return maps


def backbone_tag(model: str, pretrained: str | None = None) -> str:
    """The short name of a network and its weights, for the names of metrics.

    "embedded" is "tiny"; OpenAI's ViT-L-14 and ViT-B-32 are "l14" and "b32", as the literature
    has it; other weights of the same network add their name.
    """
    if model == "embedded":
        return "tiny"
    for scheme, prefix in zip(_SCHEMES, ("local", "hub"), strict=True):
        if model.startswith(scheme):
            place = model.removeprefix(scheme).rstrip("/")
            return _slug(f"{prefix}_{Path(place).name if prefix == 'local' else place}")
    short = _slug(re.sub(r"^ViT-([A-Za-z]+)-(\d+)", r"\1\2", model))
    if pretrained is None or pretrained == "openai":
        return short
    return _slug(f"{short}_{Path(pretrained).stem if Path(pretrained).is_file() else pretrained}")


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", text.lower()).strip("_")


def _check_source(model: str, pretrained: str | None) -> None:
    """Refuses, before anything is loaded, what cannot be a model with weights."""
    if model == "embedded" or model.startswith(_SCHEMES):
        if pretrained is not None:
            raise ValueError(f"pretrained must be null for model {model!r}, got {pretrained!r}")
        folder = _local_folder(model)
        if folder is not None and not (folder / "open_clip_config.json").is_file():
            remedy = (
                "reinstall csd-lab" if model == "embedded" else "give an open_clip model folder"
            )
            raise ValueError(
                f"clip model {model!r}: {folder} has no open_clip_config.json; {remedy}"
            )
        return
    names = open_clip.list_models()
    if model not in names:
        close = difflib.get_close_matches(model, names, 5, 0.4) or names[:5]
        allowed = f"embedded, local-dir:FOLDER, hf-hub:NAME or a model of open_clip like {close}"
        raise ValueError(f"clip model must be {allowed}, got {model!r}")
    tags = open_clip.list_pretrained_tags_by_model(model)
    if pretrained is None or not (pretrained in tags or Path(pretrained).is_file()):
        allowed = f"one of {tags} or an existing checkpoint file"
        raise ValueError(f"pretrained of {model} must be {allowed}, got {pretrained!r}")


def _local_folder(model: str) -> Path | None:
    if model == "embedded":
        return EMBEDDED_FOLDER
    scheme = _SCHEMES[0]
    return Path(model.removeprefix(scheme)) if model.startswith(scheme) else None


def _load(model: str, pretrained: str | None) -> tuple[nn.Module, Callable[[list[str]], Tensor]]:
    """The network with its weights, and its tokenizer."""
    folder = _local_folder(model)
    source = model if folder is None else f"{_SCHEMES[0]}{folder}"
    from_hub = folder is None and not (pretrained and Path(pretrained).is_file())
    with _guarded(offline=model == "embedded" or (from_hub and not _hub_answers())):
        try:
            network = open_clip.create_model(
                source,
                pretrained,
                require_pretrained=True,
                weights_only=True,
                # open_clip would only warn, and OpenAI's weights give wrong features without it.
                **({"force_quick_gelu": True} if _wants_quick_gelu(model, pretrained) else {}),
            )
            config = open_clip.get_model_config(source) or {}
            # A folder's own configuration must not be able to ask for its code to be run.
            local = {"trust_remote_code": False} if _has_hf_tokenizer(config) else {}
            tokenizer = open_clip.get_tokenizer(source, **local)
        except Exception as error:  # whatever open_clip, torch, the hub or a damaged file raise
            raise ValueError(_load_failure(model, pretrained, from_hub, error)) from error
    return network, tokenizer


def _has_hf_tokenizer(config: dict[str, Any]) -> bool:
    return bool(config.get("text_cfg", {}).get("hf_tokenizer_name"))


def _wants_quick_gelu(model: str, pretrained: str | None) -> bool:
    """Whether the tag's weights were trained with the QuickGELU activation."""
    return bool(open_clip.get_pretrained_cfg(model, pretrained or "").get("quick_gelu", False))


def _load_failure(model: str, pretrained: str | None, from_hub: bool, error: Exception) -> str:
    reason = on_one_line(error)[:200]
    if from_hub:
        remedy = (
            "download it once while connected, or use model=embedded, "
            "model=local-dir:FOLDER or pretrained=FILE"
        )
    else:
        remedy = "give a folder or file with safetensors weights of this network"
    weights = f" with pretrained {pretrained!r}" if pretrained else ""
    return f"clip model {model!r}{weights} could not be loaded ({reason}); {remedy}"


@contextmanager
def _guarded(offline: bool) -> Iterator[None]:
    """Inside, torch never unpickles and, if ``offline``, the hub's client asks its cache only.

    So an unreachable hub fails at once instead of after a minute of retries, and what was
    downloaded before still loads. The loader's own log lines are left out: a failure is told once,
    by the caller.
    """
    before, forced = hub_constants.HF_HUB_OFFLINE, os.environ.get("TORCH_FORCE_WEIGHTS_ONLY_LOAD")
    silenced = logging.root.manager.disable
    # open_clip retries a failed safe load with the unsafe default of older torch versions.
    os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = "1"
    logging.disable(logging.CRITICAL)
    hub_constants.HF_HUB_OFFLINE = before or offline
    try:
        yield
    finally:
        hub_constants.HF_HUB_OFFLINE = before
        logging.disable(silenced)
        if forced is None:
            del os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"]
        else:
            os.environ["TORCH_FORCE_WEIGHTS_ONLY_LOAD"] = forced


def _hub_answers() -> bool:
    try:
        get_session().head(hub_constants.ENDPOINT, timeout=_REACH_SECONDS)
    except Exception:  # the client library, and with it the class, differs between hub versions
        return False
    return True
