"""Small real media for pages, and hostile text."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor

from csd_lab.data import write_video
from csd_lab.report import MetricNote, RunPage

HOSTILE = (
    "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\"'`&amp;</pre></style>"
    "</title>{{ 7 * 7 }}{% raw %}${7*7}\n\nsecond line \0 \ud800 \x1b[31m \u202e evil \u2066 "
    "مرحبا שלום 你好 🎉 क्षि $\\frac{1}{0}$ " + "x" * 500
)

ANY_TEXT = st.text(st.characters(exclude_categories=()), max_size=60)
"""Any code points at all, lone surrogates and control characters too."""


def clip(frames: int = 6, height: int = 40, width: int = 60, shade: float = 0.0) -> Tensor:
    """A moving gradient, (F, 3, H, W), in [0, 1]."""
    t = torch.linspace(0, 0.5, frames)[:, None, None, None]
    x = torch.linspace(0, 0.5, width).expand(frames, 3, height, width)
    return (x + t + shade).clamp(0, 1)


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what a run writes."""
    folder = tmp_path_factory.mktemp("run")
    write_video(folder / "source.mp4", clip(12), 8)
    write_video(folder / "edited.mp4", clip(12, shade=0.3), 8)
    for name, size in {"sheet.png": (900, 300), "kernel.png": (600, 200)}.items():
        Image.fromarray(np.full((*size[::-1], 3), 120, np.uint8)).save(folder / name)
    return folder


@pytest.fixture
def page(run_folder: Path) -> RunPage:
    return RunPage(
        title="a clip",
        prompt="make it night",
        status="finished",
        step=100,
        steps=100,
        facts={"method": "csd_edit", "frames": "12 of 60 x 40"},
        videos={"source": run_folder / "source.mp4", "edited": run_folder / "edited.mp4"},
        pictures={"contact sheet": run_folder / "sheet.png"},
        metrics={"psnr_target": 27.2134, "error_spread": 0.0125, "nothing": float("nan")},
        notes={
            "psnr_target": MetricNote("PSNR to the right answer.", True, "dB"),
            "error_spread": MetricNote("Spread of the error over frames.", False),
        },
        skipped={"agreement": "needs several right answers"},
        plots={"kernel": run_folder / "kernel.png"},
        config="seed: 0\nprompt: make it night\n",
        command="csd-lab prompt='make it night'",
        resume="csd-lab resume=outputs/run",
        environment={"python": "3.11"},
        log="\n".join(f"line {i}" for i in range(400)),
    )
