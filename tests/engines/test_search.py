"""A search: what it proposes, what it remembers, and what a kill costs."""

import json

import pytest

optuna = pytest.importorskip(
    "optuna", minversion="4", reason="the extra search (Optuna) is not installed"
)

from csd_lab.sweep.search import JOURNAL, Search  # noqa: E402

OBJECTIVES = {"fidelity": "maximize", "change": "minimize"}
SPACE = {
    "a": optuna.distributions.FloatDistribution(0.0, 1.0),
    "b": optuna.distributions.CategoricalDistribution(["x", "y", "z"]),
}


def name(overrides):
    return "job of " + " ".join(overrides)


def few_random(seed):
    return optuna.samplers.TPESampler(n_startup_trials=3, seed=seed)


def search_in(folder, **changes):
    about = {"objectives": OBJECTIVES, "question": "q", "name": name, "sampler": few_random}
    return Search(folder, **{**about, **changes})


def answer(trial):
    """Values that differ with the settings, one against the other."""
    a = float(trial.overrides[0].partition("=")[2])
    b = "xyz".index(trial.overrides[1].partition("=")[2])
    return [a * (b + 1), a**2 + b]


def test_a_killed_search_proposes_what_it_would_have_proposed(tmp_path):
    whole = search_in(tmp_path / "whole")
    for _ in range(6):
        for trial in whole.ask(2, SPACE):
            whole.tell(trial, answer(trial))
    for batch in range(6):  # a new process for each batch, killed once it has proposed
        search_in(tmp_path / "killed").ask(2, SPACE)
        again = search_in(tmp_path / "killed")
        pending = again.unfinished()
        assert [trial.number for trial in pending] == [2 * batch, 2 * batch + 1]
        for trial in pending:
            again.tell(trial, answer(trial))
    assert again.trials() == whole.trials()
    assert len({trial.job for trial in whole.trials()}) > 8
    assert again.front() == whole.front()


def test_numbers_are_written_as_one_would_type_them(tmp_path):
    steps = {"a": optuna.distributions.FloatDistribution(1.0, 3.0, step=0.1)}
    written = [t.overrides[0].removeprefix("a=") for t in search_in(tmp_path).ask(30, steps)]
    assert all(len(number) == 3 and 1 <= float(number) <= 3 for number in written)


def test_another_seed_proposes_something_else(tmp_path):
    one, other = (search_in(tmp_path / str(seed), seed=seed).ask(2, SPACE) for seed in (0, 1))
    assert [t.overrides for t in one] != [t.overrides for t in other]


def test_trials_are_counted_with_those_of_former_launches(tmp_path):
    search = search_in(tmp_path)
    first, second, third = search.ask(3, SPACE)
    search.tell(first, answer(first))
    search.tell(second, None)
    assert search.left(5, retry=True) == 2  # failed in this launch: counts; third is at it: counts
    later = search_in(tmp_path)
    assert later.left(5, retry=True) == 3
    assert later.left(5, retry=False) == 2
    assert later.left(1, retry=True) == 0
    assert later.unfinished() == [third]


def test_what_failed_is_proposed_once_more_in_the_next_launch(tmp_path):
    search = search_in(tmp_path)
    (failed,) = search.ask(1, SPACE)
    search.tell(failed, None)
    search.retry_failed()
    (other,) = search.ask(1, SPACE)
    assert other.overrides != failed.overrides  # not in the same launch
    search.tell(other, answer(other))
    later = search_in(tmp_path)
    later.retry_failed()
    later.retry_failed()
    again, new = later.ask(2, SPACE)
    assert again.overrides == failed.overrides
    assert again.job == failed.job
    assert new.overrides != failed.overrides


def test_half_a_line_of_a_killed_writer_is_cut_off(tmp_path):
    search = search_in(tmp_path)
    (trial,) = search.ask(1, SPACE)
    journal = tmp_path / JOURNAL
    with journal.open("ab") as file:
        file.write(b'{"op_code":6,"worker')
    later = search_in(tmp_path)
    assert later.unfinished() == [trial]
    later.tell(trial, answer(trial))
    assert search_in(tmp_path).answered == 1
    assert [json.loads(line) for line in journal.read_text().splitlines()]


def test_two_launches_of_one_search_may_give_the_same_answer(tmp_path):
    one, other = search_in(tmp_path), search_in(tmp_path)
    (trial,) = one.ask(1, SPACE)
    assert other.unfinished() == [trial]
    one.tell(trial, [1.0, 2.0])
    other.tell(trial, [1.0, 2.0])
    assert one.answered == other.answered == 1


def test_the_front_is_what_no_other_trial_beats(tmp_path):
    search = search_in(tmp_path)
    trials = search.ask(4, SPACE)
    values = [[1.0, 1.0], [2.0, 3.0], [0.5, 2.0], [2.0, 4.0]]  # the first beats the third, ...
    for trial, pair in zip(trials, values, strict=True):
        search.tell(trial, pair)
    assert [(trial.number, pair) for trial, pair in search.front()] == [
        (1, (2.0, 3.0)),
        (0, (1.0, 1.0)),
    ]


@pytest.mark.parametrize(
    "change",
    [{"question": "another"}, {"objectives": {"fidelity": "minimize", "change": "minimize"}}],
)
def test_answers_to_another_question_are_not_mixed_in(tmp_path, change):
    search = search_in(tmp_path)
    (trial,) = search.ask(1, SPACE)
    search_in(tmp_path, **change)  # there was no answer yet, so nothing is lost
    search = search_in(tmp_path)
    (trial,) = search.ask(1, SPACE)
    search.tell(trial, answer(trial))
    with pytest.raises(ValueError, match=r"sweep\.name="):
        search_in(tmp_path, **change)
    assert search_in(tmp_path).answered == 1


@pytest.mark.parametrize("objectives", [{}, {"fidelity": "up"}])
def test_objectives_need_directions(tmp_path, objectives):
    with pytest.raises(ValueError, match=r"hydra\.sweeper\.objectives"):
        search_in(tmp_path, objectives=objectives)
    assert not (tmp_path / JOURNAL).exists()


def test_an_objective_may_leave_out_the_backbone(tmp_path):
    search = search_in(tmp_path)
    assert search.values({"fidelity_l14": 0.5, "change": 1, "change_tiny": 2.0}) == [0.5, 1.0]
    assert search.values({"fidelity": None, "change": 1.0}) is None
    with pytest.raises(ValueError, match="fidelity_l14, fidelity_b32, got 'fidelity'"):
        search.values({"fidelity_l14": 0.5, "fidelity_b32": 0.5, "change": 1.0})
    with pytest.raises(ValueError, match="out of change, got 'fidelity'"):
        search.values({"change": 1.0})
