"""The guard names the particle that spoiled a step, and stops before the update."""

import pytest
import torch
from test_video import ALL, RBF, Bandwidth, fit, particles

from csd_lab.callbacks import NonFiniteGradientError, NonFiniteGuard
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
