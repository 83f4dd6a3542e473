"""Facts of the video modality, with a prior whose noise prediction is exact."""

import pytest
import torch
from small_fits import fit

from csd_lab.distill import (
    RBF,
    Bandwidth,
    ClassifierFree,
    CollaborativeScoreDistillation,
    Identity,
    NoiseResidual,
    ScoreDistillation,
    SigmaSquared,
    UniformTimesteps,
    VariancePreserving,
)
from csd_lab.particles import VideoParticles
from csd_lab.priors import GaussianMixture

FRAMES, SIZE = 5, 4


def mixture():
    means = torch.stack([torch.full((3, SIZE, SIZE), 0.3), torch.full((3, SIZE, SIZE), 0.7)])
    return GaussianMixture(means, VariancePreserving.scaled_linear(), scales=0.1)


def particles(kernel=None, frames=None, normalize="n", seed=0, lr=0.5, high=500, **options):
    residual, weight = NoiseResidual(ClassifierFree(1.0)), SigmaSquared()
    distiller = (
        ScoreDistillation(residual, weight)
        if kernel is None
        else CollaborativeScoreDistillation(residual, kernel, weight, normalize=normalize)
    )
    if frames is None:
        frames = torch.rand(FRAMES, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    return VideoParticles(
        frames,
        "anything",
        prior=mixture(),
        distiller=distiller,
        timesteps=UniformTimesteps(20, high),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr, momentum=0.9),
        seed=seed,
        **options,
    )


ALL = torch.arange(FRAMES)


def test_one_particle_of_csd_is_sds():
    frame = torch.rand(1, 3, SIZE, SIZE)
    steps = [torch.tensor([0])] * 6
    together, _ = fit(particles(RBF(Bandwidth()), frame), steps)
    alone, _ = fit(particles(None, frame), steps)
    torch.testing.assert_close(together.latents, alone.latents, rtol=0, atol=1e-6)


def test_identity_kernel_with_row_weights_is_independent_sds():
    together, _ = fit(particles(Identity(), normalize="row"), [ALL] * 6)
    alone, _ = fit(particles(None), [ALL] * 6)
    torch.testing.assert_close(together.latents, alone.latents, rtol=0, atol=1e-6)


def test_the_order_of_a_batch_changes_nothing():
    order = torch.tensor([3, 0, 4, 1, 2])
    plain, _ = fit(particles(RBF(Bandwidth())), [ALL] * 4)
    permuted, _ = fit(particles(RBF(Bandwidth())), [order] * 4)
    torch.testing.assert_close(plain.latents, permuted.latents, rtol=0, atol=1e-5)


def test_frames_outside_a_batch_stay():
    module, _ = fit(particles(RBF(Bandwidth())), [torch.tensor([1, 3])])
    moved = (module.latents != module.source_latents).flatten(1).any(dim=1)
    assert moved.tolist() == [False, True, False, True, False]


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole, _ = fit(particles(RBF(Bandwidth())), [ALL] * 8)
    _, trainer = fit(particles(RBF(Bandwidth())), [ALL] * 8, steps=3)
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    resumed, _ = fit(particles(RBF(Bandwidth())), [ALL] * 8, checkpoint=tmp_path / "last.ckpt")
    assert torch.equal(whole.latents, resumed.latents)


def test_a_checkpoint_leaves_the_prior_out(tmp_path):
    _, trainer = fit(particles(), [ALL])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    state = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert set(state) == {"latents"}


def test_a_look_on_the_way_decodes_few_frames_of_a_long_clip(monkeypatch):
    frames = torch.rand(20, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    module, _ = fit(particles(frames=frames), [torch.arange(20)])
    whole = module.export()
    decoded = []
    decode = module.prior.decode
    monkeypatch.setattr(module.prior, "decode", lambda x: decoded.append(len(x)) or decode(x))
    rows, names = module.under_way()
    shown = [0, 3, 5, 8, 11, 14, 16, 19]
    assert names == tuple(f"frame {index}" for index in shown)
    assert decoded == [8]
    assert torch.equal(rows["source"], frames[shown])
    assert torch.equal(rows["edited together"], whole[shown])


def test_all_of_a_short_clip_is_shown_as_it_will_be():
    module, _ = fit(particles(), [ALL])
    assert module.under_way() is None


def test_the_seed_decides():
    first, _ = fit(particles(None, seed=1), [ALL] * 2)
    again, _ = fit(particles(None, seed=1), [ALL] * 2)
    other, _ = fit(particles(None, seed=2), [ALL] * 2)
    assert torch.equal(first.latents, again.latents)
    assert not torch.equal(first.latents, other.latents)


def test_distillation_moves_frames_to_the_prior_s_modes():
    module, _ = fit(particles(None, lr=0.05, high=120), [ALL] * 400)
    means = module.export().flatten(1).mean(dim=1)
    distance = torch.minimum((means - 0.3).abs(), (means - 0.7).abs())
    assert (distance < 0.05).all()


@pytest.mark.parametrize(
    ("frames", "told"),
    [
        (torch.rand(0, 3, 4, 4), "F >= 1"),
        (torch.rand(3, 4, 4), "F, 3, H, W"),
        (torch.rand(2, 1, 4, 4), "F, 3, H, W"),
    ],
)
def test_illegal_frames_are_refused(frames, told):
    with pytest.raises(ValueError, match=told):
        particles(frames=frames)


def test_an_unknown_noise_mode_is_refused():
    with pytest.raises(ValueError, match="independent"):
        particles(noise="partly")
