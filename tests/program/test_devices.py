"""Which devices a trainer may ask for."""

import pytest
import torch
from omegaconf import OmegaConf

from csd_lab.settings import check_devices, rank_count


def trainer(devices, accelerator="gpu"):
    return OmegaConf.create({"devices": devices, "accelerator": accelerator})


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)


@pytest.mark.parametrize(
    ("devices", "ranks"),
    [(1, 1), (2, 2), ("auto", 2), (-1, 2), ([1], 1), ([0, 1], 2), ("1,", 1), ("0,1", 2)],
)
@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "auto"])
def test_gpus_that_are_there(devices, ranks, accelerator) -> None:
    check_devices(trainer(devices, accelerator))
    assert rank_count(trainer(devices, accelerator)) == ranks


@pytest.mark.parametrize("devices", [0, 3, "3", [2], [0, 0], "0,2", "one", [], 1.5, None])
@pytest.mark.parametrize("accelerator", ["gpu", "auto"])
def test_others_are_told_in_one_line(devices, accelerator) -> None:
    with pytest.raises(ValueError, match=r"^trainer\.devices must be [^\n]*$"):
        check_devices(trainer(devices, accelerator))


def test_a_cpu_takes_as_many_processes_as_are_asked_for() -> None:
    check_devices(trainer(5, "cpu"))
    assert rank_count(trainer(5, "cpu")) == 5
