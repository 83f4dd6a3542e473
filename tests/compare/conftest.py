"""Real runs of the program, once a session, and synthetic sweeps made from one of them."""

from pathlib import Path

import pytest
from compare_runs import LIGHT, Maker, make_sweep, run_program

from csd_lab.run_folder import RunFolder


@pytest.fixture(scope="session")
def real_sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two methods on two clips by one command, and beside them a run that has failed."""
    work = tmp_path_factory.mktemp("work")
    sweep = work / "outputs" / "sweeps" / "small"
    grid = ("method=csd,sds", "data.clip_seed=1000000001,1000000002")
    done = run_program(work, "-m", "sweep.name=small", *LIGHT, *grid)
    assert done.returncode == 0, done.stderr
    diverging = ("optimizer.optimizer.lr=1e38", f"hydra.run.dir={sweep / 'diverging'}")
    failed = run_program(work, *LIGHT, *diverging)
    assert failed.returncode == 1, failed.stdout
    return sweep


@pytest.fixture(scope="session")
def real_run(real_sweep: Path) -> Path:
    """One of the finished runs."""
    return next(p.parent for p in sorted(real_sweep.glob("*/metrics.json")))


@pytest.fixture(scope="session")
def maker(real_run: Path) -> Maker:
    return Maker(real_run)


@pytest.fixture(scope="session")
def sweep(maker: Maker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic sweep of 44 runs, one of them broken."""
    root = make_sweep(maker, tmp_path_factory.mktemp("sweep") / "synthetic")
    broken = maker.make(root / "broken", method="dds")
    RunFolder(broken).results.unlink()
    return root
