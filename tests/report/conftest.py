"""The folder and the page of a small run."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_pages import clip

from csd_lab.data import write_video
from csd_lab.notes import MetricNote
from csd_lab.report import RunPage
from csd_lab.sweep.status import State


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
        state=State.DONE,
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
