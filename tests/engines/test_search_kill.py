"""A search of real jobs, killed in the middle."""

import json

import pytest
from engine_runs import figures, finished, kill_group, start, statuses
from running import wait_for

from csd_lab.sweep import State

pytest.importorskip("optuna", minversion="4", reason="the extra search (Optuna) is not installed")

from csd_lab.sweep.search import JOURNAL

SEARCH = (
    "hydra/sweeper=optuna",
    "sweep.name=s",
    "trainer.max_steps=3",
    "hydra.launcher.jobs=2",
    "hydra.sweeper.n_trials=4",
    "hydra.sweeper.objectives={agreement:maximize,error_spread:minimize}",
    "kernel.bandwidth.scale=range(0.5,8.5,0.5)",
    "kernel=rbf,imq",
)


@pytest.mark.slow
def test_a_killed_search_ends_with_as_many_trials_as_wanted(tmp_path):
    process = start(tmp_path, *SEARCH)

    def second_batch_begins():
        found = statuses(tmp_path, "s").values()
        return len(found) > 2 and any(status.state is State.RUNNING for status in found)

    wait_for(second_batch_begins, process)
    kill_group(process)
    before = statuses(tmp_path, "s")
    out = finished(start(tmp_path, *SEARCH))
    after = statuses(tmp_path, "s")
    assert set(before) <= set(after)  # what was proposed before the kill is still wanted
    assert {status.state for status in after.values()} == {State.DONE}
    done = {job: status for job, status in before.items() if status.state is State.DONE}
    assert done.items() <= after.items()  # and what was done is not done again
    assert "Not beaten by any of 4 trials" in out
    journal = (tmp_path / "outputs" / "sweeps" / "s" / JOURNAL).read_text().splitlines()
    answers = [entry["values"] for entry in map(json.loads, journal) if entry.get("values")]
    assert len(answers) == 4
    found = {(own["agreement"], own["error_spread"]) for own in figures(tmp_path, "s").values()}
    assert {tuple(pair) for pair in answers} == found
    again = finished(start(tmp_path, *SEARCH))
    assert statuses(tmp_path, "s") == after
    assert "Not beaten by any of 4 trials" in again
