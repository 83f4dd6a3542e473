"""The CLIP encoder against open_clip itself, a bicubic written by hand, and hostile folders."""

import json
import logging
import os
import pickle
import shutil
from contextlib import suppress
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import open_clip
import pytest
import torch
from metric_cases import MEAN, RESNET, STD, frames, settings
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import interpolate

from csd_lab.metrics import OpenClip
from csd_lab.metrics.encoders import _wants_quick_gelu, backbone_tag
from csd_lab.metrics.memory import remembering


def cubic(image: np.ndarray, length: int) -> np.ndarray:
    """Resizes the last axis by Keys' cubic (a = -0.75), half-pixel centres, edges repeated."""
    size = image.shape[-1]
    centres = (np.arange(length) + 0.5) * size / length - 0.5
    out = np.zeros((*image.shape[:-1], length))
    for tap in range(-1, 3):
        positions = np.floor(centres) + tap
        d = np.abs(centres - positions)
        near = 1.25 * d**3 - 2.25 * d**2 + 1
        far = -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
        index = positions.clip(0, size - 1).astype(int)
        out += image[..., index] * np.where(d <= 1, near, far)
    return out


@pytest.mark.parametrize("kind", ["clip_folder", "vit_folder"])
def test_features_are_those_of_open_clip(kind: str, request: pytest.FixtureRequest) -> None:
    folder = request.getfixturevalue(kind)
    encoder = OpenClip(f"local-dir:{folder}")
    model = open_clip.create_model_from_pretrained(f"local-dir:{folder}", return_transform=False)
    images = frames(3, 0, encoder.size[0])
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in (MEAN, STD))
    with torch.no_grad():
        expected = model.eval().encode_image((images - mean) / std)
    expected = expected.numpy() / np.linalg.norm(expected.numpy(), axis=1, keepdims=True)
    np.testing.assert_allclose(encoder.images(images).numpy(), expected, atol=1e-5)


def test_images_of_any_size_are_squashed_by_plain_bicubic(encoder: OpenClip) -> None:
    images = 0.3 + 0.4 * torch.rand(2, 3, 90, 131, generator=torch.Generator().manual_seed(1))
    rows = cubic(images.numpy().astype(np.float64), 64)
    square = cubic(rows.swapaxes(-1, -2), 64).swapaxes(-1, -2)
    expected = encoder.images(torch.from_numpy(square.copy()))
    torch.testing.assert_close(encoder.images(images), expected, atol=1e-4, rtol=0)


def test_texts_are_tokenised_with_the_folders_own_tokenizer(encoder: OpenClip) -> None:
    model = encoder.model
    # <start>, a=2, red=3, ball=6, <end>, <pad>...
    ids = torch.tensor([[13, 2, 3, 6, 14] + [0] * 7])
    with torch.no_grad():
        expected = model.encode_text(ids, normalize=True)
    torch.testing.assert_close(encoder.encode_texts(["a red ball"]), expected)


def test_a_long_text_is_cut_and_the_batch_size_changes_nothing(clip_folder: Path) -> None:
    small, large = (OpenClip(f"local-dir:{clip_folder}", max_batch=b) for b in (2, 64))
    texts = ["a red ball " * 30, "", "unknown words 日本", "a day"]
    images = frames(5, 2)
    torch.testing.assert_close(
        small.encode_texts(texts), large.encode_texts(texts), atol=1e-5, rtol=0
    )
    torch.testing.assert_close(small.images(images), large.images(images), atol=1e-4, rtol=0)


def test_large_images_are_resized_few_at_once_and_encoded_together(
    encoder: OpenClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    resized: list[int] = []
    encoded: list[int] = []

    def counted(images: Tensor, **options: object) -> Tensor:
        resized.append(len(images))
        return interpolate(images, **options)

    images = frames(5, 2, 90)
    expected = encoder.images(images)
    monkeypatch.setattr("csd_lab.metrics.encoders.interpolate", counted)
    monkeypatch.setattr("csd_lab.metrics.base.PIXELS_AT_ONCE", 2 * 90 * 90)
    hook = encoder.model.visual.register_forward_hook(lambda *io: encoded.append(len(io[2])))
    assert torch.equal(encoder.images(images), expected)
    hook.remove()
    assert (resized, encoded) == ([2, 2, 1], [5])


def test_remembering_encodes_a_tensor_once_and_forgets(encoder: OpenClip) -> None:
    calls: list[int] = []
    hook = encoder.model.visual.register_forward_hook(lambda *_: calls.append(1))
    images, same_values = frames(2, 3), frames(2, 3)
    with remembering():
        first = encoder.images(images)
        assert encoder.images(images) is first
        assert len(calls) == 1
        encoder.images(same_values)
        assert len(calls) == 2
        assert encoder.text("a ball") is encoder.text("a ball")
        with remembering():
            encoder.images(images)
            assert len(calls) == 3
        assert encoder.images(images) is first
    encoder.images(images)
    assert len(calls) == 4
    hook.remove()


def test_remembering_never_takes_one_tensor_for_another(encoder: OpenClip) -> None:
    with remembering():
        first = encoder.images(frames(2, 3))  # whose id is free if nobody keeps it
        others = [encoder.images(frames(2, seed)) for seed in range(4, 12)]
        assert not any(torch.equal(other, first) for other in others)


def test_the_network_is_frozen(encoder: OpenClip) -> None:
    assert not encoder.model.training
    assert not any(parameter.requires_grad for parameter in encoder.parameters())
    images = frames(1, 0).requires_grad_()
    assert not encoder.images(images).requires_grad


@pytest.mark.parametrize(
    ("model", "pretrained", "tag"),
    [
        ("embedded", None, "tiny"),
        ("ViT-L-14", "openai", "l14"),
        ("ViT-B-32", "openai", "b32"),
        ("ViT-L-14-336", "openai", "l14_336"),
        ("ViT-B-32", "laion2b_s34b_b79k", "b32_laion2b_s34b_b79k"),
        ("RN50", "openai", "rn50"),
        ("local-dir:/some/where/My CLIP/", None, "local_my_clip"),
        ("hf-hub:Someone/ViT-L-14", None, "hub_someone_vit_l_14"),
    ],
)
def test_tags_name_the_network_and_its_weights(
    model: str, pretrained: str | None, tag: str
) -> None:
    assert backbone_tag(model, pretrained) == tag


def test_openai_weights_get_their_activation() -> None:
    assert _wants_quick_gelu("ViT-L-14", "openai")
    assert not _wants_quick_gelu("ViT-L-14", "laion2b_s32b_b82k")
    assert not _wants_quick_gelu("embedded", None)


@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_a_named_model_reads_a_checkpoint_file(tmp_path: Path, suffix: str) -> None:
    config = settings({**RESNET, "image_size": 32})
    config["text_cfg"] = {"context_length": 12, "width": 16, "heads": 1, "layers": 1}
    (tmp_path / "csd-lab-test.json").write_text(json.dumps(config))
    open_clip.add_model_config(tmp_path)
    weights = open_clip.create_model("csd-lab-test").state_dict()
    path = tmp_path / f"My weights.{suffix}"
    save_file(weights, path) if suffix == "safetensors" else torch.save(weights, path)
    encoder = OpenClip("csd-lab-test", str(path))
    assert encoder.tag == "csd_lab_test_my_weights"
    torch.testing.assert_close(dict(encoder.model.state_dict()), dict(weights))
    assert encoder.encode_texts(["a dog", "a cat"]).shape == (2, 24)


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("ViT-L-15", "openai", "ViT-L-14.*got 'ViT-L-15'"),
        ("ViT-L-14", None, "one of .*'openai'.* or an existing checkpoint file, got None"),
        ("ViT-L-14", "opnai", "got 'opnai'"),
        ("embedded", "openai", "pretrained must be null"),
        ("local-dir:/no/such/folder", None, "no open_clip_config.json; give an open_clip model"),
    ],
)
def test_a_wrong_source_is_refused_before_loading(
    model: str, pretrained: str | None, message: str
) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        OpenClip(model, pretrained)
    assert "\n" not in str(caught.value)


def copied(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def refused(folder: Path) -> str:
    with pytest.raises(ValueError, match="could not be loaded") as caught:
        OpenClip(f"local-dir:{folder}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_damaged_and_foreign_weights_are_told_in_one_line(
    clip_folder: Path, vit_folder: Path, tmp_path: Path
) -> None:
    name = "open_clip_model.safetensors"
    missing = copied(clip_folder, tmp_path / "missing")
    (missing / name).unlink()
    assert "safetensors weights" in refused(missing)
    cut = copied(clip_folder, tmp_path / "cut")
    (cut / name).write_bytes((cut / name).read_bytes()[:1000])
    refused(cut)
    foreign = copied(clip_folder, tmp_path / "foreign")
    shutil.copy(vit_folder / name, foreign / name)
    refused(foreign)
    broken = copied(clip_folder, tmp_path / "broken")
    (broken / "open_clip_config.json").write_text("{")
    refused(broken)


class Marker:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_a_pickle_is_not_unpickled(clip_folder: Path, tmp_path: Path) -> None:
    folder = copied(clip_folder, tmp_path / "hostile")
    (folder / "open_clip_model.safetensors").unlink()
    marker = tmp_path / "unpickled"
    (folder / "open_clip_pytorch_model.bin").write_bytes(pickle.dumps(Marker(marker)))
    refused(folder)
    torch.save({"weight": Marker(marker)}, folder / "open_clip_pytorch_model.bin")
    refused(folder)
    assert not marker.exists()


def test_code_in_a_folder_is_not_run(clip_folder: Path, tmp_path: Path) -> None:
    folder, marker = copied(clip_folder, tmp_path / "hostile"), tmp_path / "ran"
    config = json.loads((folder / "open_clip_config.json").read_text())
    config["model_cfg"]["text_cfg"]["tokenizer_kwargs"] = {"trust_remote_code": True}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text())
    tokenizer |= {"tokenizer_class": "Evil", "auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer))
    (folder / "evil.py").write_text(
        "from transformers import PreTrainedTokenizer\n"
        f"open({str(marker)!r}, 'w').close()\n"
        "class Evil(PreTrainedTokenizer): pass\n"
    )
    with suppress(ValueError):
        OpenClip(f"local-dir:{folder}")
    assert not marker.exists()


def test_an_unreachable_hub_fails_at_once_and_leaves_everything_as_it_was(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.delenv("TORCH_FORCE_WEIGHTS_ONLY_LOAD", raising=False)
    for model, pretrained in (("hf-hub:nobody/no-such-clip", None), ("ViT-L-14", "openai")):
        with pytest.raises(ValueError, match="while connected, or use model=embedded") as caught:
            OpenClip(model, pretrained)
        assert "\n" not in str(caught.value)
    assert huggingface_hub.constants.HF_HUB_OFFLINE is False
    assert "TORCH_FORCE_WEIGHTS_ONLY_LOAD" not in os.environ
    assert logging.root.manager.disable == logging.NOTSET


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 4, 8, 8), r"\(\.\.\., 3, H, W\)"),
        (torch.zeros(3, 8, 8), r"\(\.\.\., 3, H, W\)"),
        (torch.zeros(0, 3, 8, 8), "not empty"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), "divide by 255"),
        (torch.full((1, 3, 8, 8), 2.0), r"\[2, 2\]"),
        (torch.full((1, 3, 8, 8), torch.nan), "finite"),
    ],
)
def test_images_that_are_none_are_refused(
    encoder: OpenClip, images: torch.Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        encoder.images(images)


def test_max_batch_must_be_positive(clip_folder: Path) -> None:
    with pytest.raises(ValueError, match="max_batch must be a whole number of at least 1, got 0"):
        OpenClip(f"local-dir:{clip_folder}", max_batch=0)
