"""The program in this process, and sweeps as it would plan them."""

import pytest
from hydra._internal.callbacks import Callbacks
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import HydraContext, RunMode
from running import run_here

from csd_lab.composition import config_folder


@pytest.fixture
def csd_lab(tmp_path, monkeypatch):
    """Calls the command line in an empty folder, in this process; returns its exit code."""
    monkeypatch.chdir(tmp_path)

    return run_here


@pytest.fixture
def multirun(tmp_path, monkeypatch):
    """What Hydra hands its plugins, and the config of a multirun with these overrides."""
    monkeypatch.chdir(tmp_path)

    def make(*overrides: str):
        GlobalHydra.instance().clear()
        hydra = Hydra.create_main_hydra2("csd-lab", create_config_search_path(str(config_folder())))
        config = hydra.compose_config(
            "run", list(overrides), run_mode=RunMode.MULTIRUN, with_log_configuration=False
        )
        HydraConfig.instance().set_config(config)
        return HydraContext(config_loader=hydra.config_loader, callbacks=Callbacks(config)), config

    yield make
    GlobalHydra.instance().clear()
