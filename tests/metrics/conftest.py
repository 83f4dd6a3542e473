"""Session-wide encoders with random weights."""

from pathlib import Path

import pytest
from metric_cases import RESNET, VIT, save_clip

from csd_lab.metrics import OpenClip


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "Random-RN", RESNET)


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_clip(tmp_path_factory.mktemp("clip") / "Random-ViT", VIT)


@pytest.fixture(scope="session")
def encoder(clip_folder: Path) -> OpenClip:
    return OpenClip(f"local-dir:{clip_folder}")
