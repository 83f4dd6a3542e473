"""The guard names the particle that spoiled a step, and stops before the update."""

import pytest
import torch
from test_video import ALL, RBF, Bandwidth, fit, particles

from csd_lab.callbacks import NonFiniteGradientError, NonFiniteGuard, SteinDiscrepancy
from csd_lab.distill import kernelized_stein_discrepancy
from csd_lab.particles import base
from csd_lab.priors import GaussianMixture


def test_one_bad_particle_is_named(monkeypatch):
    predict = GaussianMixture.predict_noise

    def spoil(self, queries, t):
        estimates = predict(self, queries, t)
        estimates[0][3, 0, 0, 0] = torch.nan
        return estimates

    module = particles(RBF(Bandwidth()))
    fit(module, [ALL] * 2)
    before = module.latents.detach().clone()
    monkeypatch.setattr(GaussianMixture, "predict_noise", spoil)
    monkeypatch.setattr(module, "setup", lambda stage: None)
    with pytest.raises(NonFiniteGradientError, match="step 0 is not finite for particle 3 "):
        fit(module, [ALL], callbacks=[NonFiniteGuard()])
    assert torch.equal(module.latents, before)


def test_a_loss_that_only_carries_a_gradient_may_be_of_any_size(monkeypatch):
    plain, _ = fit(particles(RBF(Bandwidth())), [ALL])
    carried = base.surrogate_loss

    def overflowing(x, gradient):
        return carried(x, gradient) + torch.tensor(torch.inf)

    monkeypatch.setattr(base, "surrogate_loss", overflowing)
    module, _ = fit(particles(RBF(Bandwidth())), [ALL], callbacks=[NonFiniteGuard()])
    assert torch.equal(module.latents, plain.latents)


def test_the_discrepancy_that_is_logged_is_that_of_the_particles():
    module = particles(RBF(Bandwidth()))
    kernel = RBF(Bandwidth("fixed", value=3.0))
    _, trainer = fit(module, [ALL] * 2, callbacks=[SteinDiscrepancy(kernel)])
    x = module.latents.detach()
    score = module.prior.score(x, text=module.conditioning(ALL).prompt)
    expected = kernelized_stein_discrepancy(x.flatten(1), score.flatten(1), kernel, "v")
    assert float(trainer.logged_metrics["ksd"]) == pytest.approx(float(expected), rel=1e-5)
    assert expected > 0.01
