"""A scene made from a caption, on an exact prior of plain colours."""

from functools import partial

import pytest
import torch
from small_fits import fit

from csd_lab.data import TextScene
from csd_lab.distill import (
    RBF,
    Bandwidth,
    ClassifierFree,
    CollaborativeScoreDistillation,
    NoiseResidual,
    ScoreDistillation,
    SigmaSquared,
    SourceResidual,
    UniformTimesteps,
    VariancePreserving,
)
from csd_lab.fields import (
    Blob,
    OpacityEntropy,
    OrbitViews,
    Orientation,
    RandomViews,
    Smoothness,
    Sparsity,
    grid_scene,
)
from csd_lab.particles import Growth, TextTo3D, ViewTexts
from csd_lab.priors import GaussianMixture
from csd_lab.processes import supervise

SCHEDULE = VariancePreserving.scaled_linear()
SIDE, COUNT = 8, 3
ALL = torch.arange(COUNT)
HALVES = {"starts": (0.0, 0.5), "sides": (0.5, 1.0), "nodes": (0.5, 1.0)}
EVERYTHING = {
    "sparsity": Sparsity(0.5),
    "opacity": OpacityEntropy(0.3),
    "orientation": Orientation(0.7),
    "smoothness": Smoothness(0.1),
}


def data(**options):
    parts = {
        "prompt": "a red ball",
        "scene": partial(grid_scene, resolution=8, background_height=4, coarse=6, fine=4),
        "views": RandomViews(COUNT),
        "start": Blob(0.6, 2.0),
        "frames": 4,
        "size": SIDE,
    }
    return TextScene(**parts | options)


def colours(value=0.2):
    return GaussianMixture(torch.full((1, 3, SIDE, SIDE), value), SCHEDULE, scales=0.1)


def sds(rule=NoiseResidual):
    return ScoreDistillation(rule(ClassifierFree(1.0)), SigmaSquared())


def csd():
    return CollaborativeScoreDistillation(
        NoiseResidual(ClassifierFree(1.0)), RBF(Bandwidth()), SigmaSquared(), normalize="row"
    )


def module(text=None, steps=6, growth=HALVES, distiller=None, **options):
    text = text or data()
    parts = {
        "regularisers": EVERYTHING,
        "prior": colours(),
        "distiller": distiller or csd(),
        "timesteps": UniformTimesteps(20, 500),
        "optimizer": lambda parameters: torch.optim.Adam(parameters, lr=0.05),
        "seed": 3,
    }
    return TextTo3D(
        text.scene(),
        text.views,
        text.shown,
        text.prompt,
        Growth(steps, **growth),
        **parts | options,
    )


def parameters(made):
    return torch.cat([p.detach().flatten() for p in made.scene.field.parameters()])


def test_the_gradient_is_that_of_the_particles_and_the_regularisers():
    """By hand, for one step of plain descent."""
    made, plain = module(optimizer=lambda p: torch.optim.SGD(p, lr=1.0)), module()
    before = parameters(made)
    fit(made, [ALL])
    x = plain.render(ALL)
    looks = [plain._seen[i] for i in range(COUNT)]
    costs = sum(regulariser(plain.scene, looks) for regulariser in EVERYTHING.values())
    loss = (x * made.latest.distillation.gradient).sum() + costs
    gradients = torch.autograd.grad(loss, list(plain.scene.field.parameters()))
    by_hand = before - torch.cat([g.flatten() for g in gradients])
    torch.testing.assert_close(parameters(made), by_hand, rtol=1e-4, atol=1e-5)
    free, _ = fit(module(optimizer=made._optimizer, regularisers=None), [ALL])
    assert (parameters(made) - parameters(free)).abs().max() > 1e-3


@pytest.mark.parametrize("distiller", [sds, csd])
def test_views_come_to_what_the_prior_likes(distiller):
    """Every colour but the prior's own is unlikely, from wherever it is seen."""
    made, _ = fit(
        module(
            steps=60,
            distiller=distiller(),
            regularisers=None,
            optimizer=lambda p: torch.optim.Adam(p, lr=0.1),
        ),
        [ALL] * 60,
    )
    before = (made.export_source() - 0.2).abs().mean()
    assert before > 0.25
    assert (made.export() - 0.2).abs().mean() < 0.25 * before


def test_one_view_of_csd_is_sds():
    text = data(views=RandomViews(1))
    one = torch.arange(1)
    alone, _ = fit(module(text, distiller=sds()), [one] * 3)
    shared, _ = fit(module(text, distiller=csd()), [one] * 3)
    torch.testing.assert_close(parameters(alone), parameters(shared))


def test_small_renderings_are_enlarged_to_the_priors_images():
    made = module(steps=4)
    assert made.render(ALL).shape == (COUNT, 3, SIDE, SIDE)
    assert len(made._seen[0].rendering.opacity) == (SIDE // 2) ** 2
    fit(made, [ALL] * 3)
    made.render(ALL)
    assert len(made._seen[0].rendering.opacity) == SIDE**2


def test_the_grid_grows_and_the_optimiser_follows():
    """Adam's first step on new nodes is as long as its rate; the panorama's is the third."""
    made, trainer = fit(module(steps=4), [ALL] * 2)
    assert made.scene.field.resolution == 4
    made, trainer = fit(module(steps=4), [ALL] * 3)
    assert made.scene.field.resolution == 8
    field, optimizer = made.scene.field, trainer.optimizers[0]
    (group,) = optimizer.param_groups
    assert [id(p) for p in group["params"]] == [id(p) for p in field.parameters()]
    assert len(optimizer.state) == 2
    taken = {name: int(optimizer.state[p]["step"]) for name, p in field.named_parameters()}
    assert taken == {"values": 1, "panorama.pixels": 3}


@pytest.mark.parametrize("half", [2, 3, 4])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, half):
    """Stopped before, at, and after the border between two stages."""
    whole, _ = fit(module(), [ALL] * 6)
    made, trainer = fit(module(), [ALL] * 6, steps=half)
    path = tmp_path / "last.ckpt"
    trainer.save_checkpoint(path)
    resumed, _ = fit(module(), [ALL] * 6, checkpoint=path)
    assert resumed.scene.field.resolution == 8
    assert torch.equal(parameters(whole), parameters(resumed))
    assert torch.equal(whole.export(), resumed.export())
    assert torch.equal(whole.export_source(), resumed.export_source())
    assert len(parameters(made)) != len(parameters(whole)) or half > 3


def ranks_end(ranks):
    """What a run of several ranks ends with, in stages, with regularisers."""
    torch.set_num_threads(1)
    sgd = partial(torch.optim.SGD, lr=1.0, momentum=0.9)  # Adam would blow rounding up
    made, trainer = fit(
        module(optimizer=sgd), [ALL] * 6, devices=ranks, use_distributed_sampler=False
    )
    return parameters(made), penalties_in(trainer)


def penalties_in(trainer):
    """What was logged of the regularisers in the last step."""
    logged = trainer.callback_metrics
    return {key: float(value) for key, value in logged.items() if key.startswith("penalty_")}


def test_two_processes_end_with_the_result_of_one_and_log_the_same():
    (one, logged), (two, of_both) = ranks_end(1), supervise(ranks_end, 2, ranks=2)
    assert (two - one).abs().max() < 1e-5 * one.abs().max()
    assert of_both == pytest.approx(logged, rel=1e-4)


def test_what_regularisers_cost_a_view_is_logged():
    _, trainer = fit(module(), [ALL])
    plain = module()
    plain.render(ALL)
    of_all = plain.penalties(ALL)
    assert penalties_in(trainer) == pytest.approx(
        {f"penalty_{name}": of_all[name].item() / COUNT for name in EVERYTHING}
    )


def test_a_rank_may_have_no_view():
    made = module()
    made.render(ALL)
    assert made.penalties(torch.arange(0)) == dict.fromkeys(EVERYTHING, torch.zeros(()))


def test_regularisers_of_weight_0_are_not_evaluated():
    made = module(regularisers={"sparsity": Sparsity(0.0), "opacity": OpacityEntropy(1.0)})
    made.render(ALL)
    assert list(made.penalties(ALL)) == ["opacity"]


def test_each_view_has_its_own_words():
    places = {"front": (350, 5), "side": (100, 5), "back": (170, 59), "overhead": (10, 61)}
    azimuth, elevation = (torch.tensor(v).float() for v in zip(*places.values(), strict=True))
    views = OrbitViews(azimuth, elevation, azimuth, azimuth)
    texts = ViewTexts()("a ball", views)
    assert texts == tuple(f"a ball, {name} view" for name in places)
    made = module(view_texts=ViewTexts())
    drawn = made.views.draw(3, 0, ALL)
    assert made.conditioning(ALL).prompt == ViewTexts()("a red ball", drawn)
    assert module().conditioning(ALL).prompt == "a red ball"


def test_a_negative_prompt_reaches_the_prior():
    assert module(negative_prompt="blur").conditioning(ALL).negative_prompt == "blur"


def test_what_is_shown_before_the_first_step_is_the_tasks_source():
    text = data()
    assert text.task.source.shape == (4, 3, SIDE, SIDE)
    assert text.task.target_caption == "a red ball"
    made = module(text)
    torch.testing.assert_close(made.export_source(), text.task.source)
    assert next(iter(text.batches(lambda: 0))).tolist() == [0, 1, 2]


def test_sizes_are_those_that_the_prior_takes():
    text = data(size=10)
    text.fit_to(4)
    assert (text.shown.height, text.shown.width) == (8, 8)
    assert text.restore(torch.zeros(4, 3, 8, 8)).shape == (4, 3, 10, 10)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: module(distiller=sds(SourceResidual)), "method must distil without a source"),
        (lambda: module(regularisers={"foo": 1.0}), "regularisers.foo must be a regulariser"),
        (lambda: data(prompt=None), "prompt must be one text"),
        (lambda: data(prompt=["a", "b"]), "prompt must be one text"),
        (lambda: data(extent=0), "extent must be a finite number above 0"),
        (lambda: data(frames=0), "frames must be"),
        (lambda: Growth(10, starts=(0.5,)), "starts must ascend from 0"),
        (lambda: Growth(10, starts=(0.0, 1.0)), "stay below 1"),
        (lambda: Growth(10, sides=(0.5, 1.0)), "sides must be 1 shares"),
        (lambda: Growth(10, nodes=(0.0,)), "nodes must be 1 shares"),
        (lambda: Growth(10, starts=0.5), "starts must be a list of numbers"),
        (lambda: Growth(10, starts=()), "starts must ascend from 0"),
        (lambda: Growth(0), "steps must be a whole number of at least 1"),
        (lambda: ViewTexts(front=0), "front must be in"),
        (lambda: ViewTexts(overhead=91), "overhead must be in"),
    ],
)
def test_what_is_impossible_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
