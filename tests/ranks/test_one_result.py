"""One, two and three processes end with the same result, whatever they have to share."""

import pytest
import rank_cases
import torch

from csd_lab.processes import supervise

TOLERANCE = 1e-5
"""Of the largest latent, or of 1 if that is smaller."""


@pytest.fixture(scope="module")
def texts():
    return rank_cases.texts()


@pytest.fixture(scope="module", autouse=True)
def one_thread_each():
    """The order of a sum, and so its rounding, depends on how many threads take part."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def one(texts, tmp_path_factory):
    return rank_cases.everything(texts, tmp_path_factory.mktemp("one"), 1, None)


@pytest.fixture(scope="module")
def two(texts, one, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    return supervise(rank_cases.everything, texts, folder, 2, one.checkpoint, ranks=2)


@pytest.fixture(scope="module")
def three(texts, two, tmp_path_factory):
    folder = tmp_path_factory.mktemp("three")
    return supervise(rank_cases.everything, texts, folder, 3, two.checkpoint, ranks=3)


@pytest.fixture(params=[2, 3])
def several(request):
    return request.param, request.getfixturevalue({2: "two", 3: "three"}[request.param])


def difference(a, b):
    return float((a - b).abs().max() / b.abs().max().clamp(min=1))


@pytest.mark.parametrize("name", rank_cases.RUNS)
def test_latents_are_those_of_one_process(name, one, several):
    expected, found = one.outcomes[name], several[1].outcomes[name]
    assert difference(expected.latents, expected.start) > 0.01  # there is something to compare
    assert difference(found.start, expected.start) == 0
    assert difference(found.latents, expected.latents) < TOLERANCE


def test_what_is_learnt_is_that_of_one_process(one, several):
    """Also where a rank has no particle, and so nothing to learn from."""
    expected, found = (report.outcomes["vsd, embedded prior"] for report in (one, several[1]))
    assert expected.learnt.abs().mean() > 1e-5
    # Adam makes full steps also of gradients that are nothing but rounding
    apart = (found.learnt - expected.learnt).abs()
    assert apart.mean() < 1e-6
    assert found.scalars["learning_error"] == pytest.approx(
        expected.scalars["learning_error"], 1e-4
    )


@pytest.mark.parametrize("name", rank_cases.RUNS)
def test_every_rank_sees_all_particles_and_evaluates_its_own_share(name, one, several):
    ranks, report = several
    expected, found = one.outcomes[name], report.outcomes[name]
    assert found.ids == expected.ids
    assert found.kernel == expected.kernel
    shares = ranks if name == rank_cases.COUPLED else 1
    assert sum(found.samples) == shares * expected.samples[0]
    assert len(found.samples) == ranks
    for key, value in expected.scalars.items():
        assert found.scalars[key] == pytest.approx(value, rel=1e-4, abs=1e-6), key


def test_nothing_but_the_rounding_of_batches_tells_several_processes_from_one(one, several):
    expected, found = one.outcomes[rank_cases.ALONE], several[1].outcomes[rank_cases.ALONE]
    assert torch.equal(found.latents, expected.latents)


def test_a_rank_may_have_no_particle(three):
    assert three.outcomes["csd in batches of 2"].samples[-1] == 0


def test_shares_differ_by_one_particle_at_most(three):
    first, second, third = three.outcomes["csd in batches of 4"].samples
    assert first == 2 * second == 2 * third


def test_what_particles_share_gets_the_sum_of_their_gradients(one, several):
    """Every particle moves every parameter, and a rank without particles takes part."""
    assert difference(several[1].shared, one.shared) < TOLERANCE
    assert difference(one.shared, rank_cases.turning().picture.detach()) > 1e-3


def test_a_run_goes_on_with_another_number_of_processes(one, two, three, texts, tmp_path):
    """One to two, two to three, three to one."""
    whole = one.outcomes["csd in batches of 2"].latents
    assert difference(two.resumed, whole) < TOLERANCE
    assert difference(three.resumed, whole) < TOLERANCE
    text = texts["csd in batches of 2"]
    resumed = rank_cases.run(text, tmp_path, 1, checkpoint=three.checkpoint)
    assert difference(resumed.latents, whole) < TOLERANCE


def test_all_ranks_refuse_the_gradient_that_one_of_them_spoiled(one, several):
    ranks, report = several
    (expected, _), *_ = one.refusals
    assert "step 0 is not finite for particle 3 " in expected
    assert report.refusals == [(expected, 0.0)] * ranks


def test_one_signalled_rank_stops_all_after_the_same_step(one, several):
    ranks, report = several
    assert one.stopped == [3]
    assert report.stopped == [3] * ranks
