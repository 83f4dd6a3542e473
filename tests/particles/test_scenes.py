"""Scenes under a prior: through their images, or straight through their cameras."""

import pytest
import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from csd_lab import particles
from csd_lab.baselines import InstructNerf2Nerf, InstructPix2Pix, sample_images
from csd_lab.build import build
from csd_lab.callbacks import NonFiniteGradientError
from csd_lab.composition import config_folder
from csd_lab.distill import DualGuidance, particle_noise, surrogate_loss
from csd_lab.run_folder import RunFolder

SCENE = (
    *("data=world_scene", "data.count=5", "data.held_out=2", "data.size=32", "metrics=pixels"),
    *("field.resolution=10", "field.coarse=6", "field.fine=6", "prior.dtype=float32"),
    *("modality.recipe.loss.rays=64", "modality.recipe.steps=4", "prompt=make it sepia"),
)
RECONSTRUCTION = tuple(
    part for part in SCENE[1:] if not part.startswith(("modality.recipe.steps", "prompt"))
)
IMAGES = (*SCENE, "modality.updates.fit=2", "modality.updates.last=3", "data.views=2")
ROUNDS = (*IMAGES, "trainer.max_steps=3", "modality.updates.times=3")


def built(folder, *overrides, callbacks=("checkpoint",)):
    """The objects of a run with only the callbacks that change a result."""
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(config_folder()), version_base="1.3"):
        config = compose("run", overrides=["trainer.accelerator=cpu", *overrides])
    OmegaConf.set_struct(config, False)
    config.logger = {}
    config.callbacks = {name: config.callbacks[name] for name in callbacks}
    config.trainer.enable_progress_bar = False
    return build(config, RunFolder(folder))


def run(folder, *overrides, checkpoint=None):
    """The module of a run that ended."""
    data, module, trainer = built(folder, *overrides)
    trainer.fit(module, data, ckpt_path=checkpoint, weights_only=True)
    return module


def parameters(scene):
    return torch.cat([p.detach().flatten() for p in scene.parameters()])


def state(module):
    """All that a scene's run moves."""
    return (
        parameters(module.scene),
        parameters(module.source_scene),
        module.edited,
        module.latents.detach(),
        module.in_hand,
    )


class StopAt(pl.Callback):
    """Asks the run to stop after so many steps."""

    def __init__(self, steps):
        self.steps = steps

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.global_step >= self.steps


def unfinished(folder, steps, *overrides):
    """The checkpoint of a run that was stopped after so many steps."""
    data, module, trainer = built(folder, *overrides)

    trainer.callbacks.insert(0, StopAt(steps))
    trainer.fit(module, data)
    assert trainer.global_step == steps
    return RunFolder(folder).checkpoint


@pytest.mark.parametrize("method", ["csd_edit_best", "ip2p"])
def test_views_in_hand_are_shown_while_the_scene_does_not_follow_them(tmp_path, method):
    data, module, trainer = built(tmp_path, *IMAGES, f"method={method}", "trainer.max_steps=4")
    trainer.callbacks.insert(0, StopAt(2))
    trainer.fit(module, data)
    rows, names = module.under_way()
    ids = [int(name.removeprefix("view ")) for name in names]
    assert sorted(ids) == module.in_hand.nonzero()[:, 0].tolist()
    assert set(rows) == {"captured", "views in hand"}
    assert torch.equal(rows["captured"], module.original[ids])
    assert rows["views in hand"].shape == rows["captured"].shape
    off = (rows["views in hand"] - rows["captured"]).abs().mean()
    assert 0.02 < off < 0.4
    assert torch.equal(module.export(), module.export_source())
    whole = run(tmp_path / "whole", *IMAGES, f"method={method}", "trainer.max_steps=2")
    assert whole.under_way() is None


@pytest.mark.parametrize(
    ("overrides", "rows"),
    [
        (("experiment=reconstruct", *RECONSTRUCTION), {"captured", "reconstructed"}),
        ((*SCENE, "method=dds"), {"captured", "edited together"}),
    ],
)
def test_a_look_on_the_way_takes_few_rays(tmp_path, monkeypatch, overrides, rows):
    monkeypatch.setattr(particles.module, "GLANCE", 4 * 10 * 10)
    module = run(tmp_path, *overrides, "trainer.max_steps=1")
    glance = module.under_way()
    before, after = glance.rows.values()
    assert set(glance.rows) == rows
    assert glance.names == ("view 0", "view 1", "view 3", "view 4")
    assert before.shape == after.shape == (4, 3, 10, 10)
    small = module.cameras.resized(10, 10)
    torch.testing.assert_close(after, module.scene.views(small)[[0, 1, 3, 4]])
    captured = module.images if "reconstructed" in rows else module.original
    torch.testing.assert_close(before.mean(), captured[[0, 1, 3, 4]].mean(), atol=5e-3, rtol=0)


@pytest.mark.parametrize("method", ["csd_edit_best", "in2n"])
@pytest.mark.parametrize("steps", [2, 3, 7])
def test_resumed_is_uninterrupted_within_an_update_and_between_two(tmp_path, method, steps):
    overrides = (*ROUNDS, f"method={method}", "data.views=2")
    whole = run(tmp_path / "whole", *overrides)
    checkpoint = unfinished(tmp_path / "half", steps, *overrides)
    resumed = run(tmp_path / "resumed", *overrides, checkpoint=checkpoint)
    for expected, found in zip(state(whole), state(resumed), strict=True):
        assert torch.equal(expected, found)
    assert torch.equal(whole.export(), resumed.export())
    assert torch.equal(whole.export_source(), resumed.export_source())
    assert not torch.equal(whole.export(), whole.export_source())


def test_only_views_that_were_in_hand_are_edited_and_the_capture_stays(tmp_path):
    module = run(tmp_path, *IMAGES, "trainer.max_steps=2", "modality.updates.times=1")
    edited = (module.edited != module.original).flatten(1).any(dim=1)
    assert edited.sum() == 2
    assert not module.in_hand.any()
    data = built(tmp_path / "again", *IMAGES).data
    assert torch.equal(module.original, data.followed.images)
    decoded = module.prior.decode(module.latents[edited].detach())
    assert torch.equal(module.edited[edited], decoded)


def test_views_begin_as_captured_until_something_was_edited(tmp_path):
    still = (*ROUNDS, "optimizer.optimizer.lr=0.0", "modality.updates.last=0")
    data, module, trainer = built(tmp_path, *still)
    begun = []
    taken = module._take

    def take(ids):
        rendered = module.prior.encode(module.scene.views(module.cameras, ids))
        taken(ids)
        begun.append((module.latents[ids], module.source_latents[ids], rendered))

    module._take = take
    trainer.fit(module, data)
    (first, captured, _), *later = begun
    assert torch.equal(first, captured)
    assert len(later) == 2
    assert all(torch.equal(latents, rendered) for latents, _, rendered in later)


def test_the_scene_takes_its_steps_after_each_update_and_more_in_the_end(tmp_path):
    module = run(tmp_path, *ROUNDS)
    assert int(module.fitter.taken) == 4 + 3 * 2 + 3  # reconstruction, updates, last


def test_all_views_from_noise_are_what_the_baseline_samples(tmp_path):
    overrides = (*SCENE, "method=ip2p", "trainer.max_steps=3", "modality.updates.last=2")
    module = run(tmp_path, *overrides)
    sampler = InstructPix2Pix(DualGuidance(3.0, 1.5), module.distiller._factory, 3)
    ids = torch.arange(5)
    noise = particle_noise(0, 0, ids, tuple(module.latents.shape[1:]))
    expected = sample_images(sampler, module.prior, module.original, "make it sepia", noise)
    torch.testing.assert_close(module.edited, expected, atol=1e-5, rtol=0)


def test_instruct_nerf2nerf_goes_down_from_a_noised_rendering(tmp_path):
    """By hand: T, noise at the first of its steps, DDIM down to the end."""
    overrides = (*SCENE, "method=in2n", "trainer.max_steps=4", "modality.updates.times=1")
    before = built(tmp_path / "a", *overrides, "modality.updates.last=0")
    module = run(tmp_path / "b", *overrides, "modality.updates.last=0", "modality.updates.fit=0")
    (index,) = (module.edited != module.original).flatten(1).any(dim=1).nonzero()[:, 0].tolist()
    prior, ids = module.prior, torch.tensor([index])
    sampler = before.module.distiller
    level = sampler._level()
    assert 0.02 * 1000 - 1 <= level <= 0.98 * 1000 + 1
    x_0 = prior.encode(module.scene.views(module.cameras, ids))
    noise = particle_noise(0, 0, ids, tuple(x_0.shape[1:]))
    timesteps = [level // 4 * k + 1 for k in (3, 2, 1, 0)]
    abar = sampler.scheduler.alphas_cumprod
    x = abar[timesteps[0]].sqrt() * x_0 + (1 - abar[timesteps[0]]).sqrt() * noise
    texts = module.conditioning(ids)
    for t in timesteps:
        estimate = sampler.estimate(prior, x, texts, torch.tensor(t))
        clean = (x - (1 - abar[t]).sqrt() * estimate) / abar[t].sqrt()
        after = t - level // 4
        end = abar[after] if after >= 0 else torch.tensor(1.0)
        end = abar[0] if after < 0 and not sampler.scheduler.config.set_alpha_to_one else end
        x = end.sqrt() * clean + (1 - end).sqrt() * estimate
    torch.testing.assert_close(module.latents[ids].detach(), x, atol=2e-4, rtol=0)


def test_each_view_has_a_noise_level_of_its_own():
    sampler = InstructNerf2Nerf(
        guidance=DualGuidance(3.0, 1.5), scheduler=lambda config: None, steps=2, seed=1
    )
    sampler._limit = 1000
    levels = []
    for begun in range(300):
        sampler.begun = begun
        levels.append(sampler._level())
    assert min(levels) >= 20
    assert max(levels) <= 980
    assert len(set(levels)) > 200
    assert abs(sum(levels) / 300 - 500) < 4 * 277 / 300**0.5


def test_the_gradient_goes_through_encoder_and_renderer(tmp_path):
    overrides = (*SCENE, "method=sds", "data.views=2", "trainer.max_steps=1")
    module = built(tmp_path, *overrides).module
    module.source_latents = module.prior.encode(module.original)
    scene = module.scene
    ids = torch.tensor([3, 1])
    x = module.render(ids)
    gradient = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    surrogate_loss(x, gradient).backward()
    colours = scene.field.colours  # densities also move where rays are cut, without gradient
    gradient_of_colours = scene.field.values.grad[:, 1:]
    slope, step = gradient_of_colours.norm(), 1e-3
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            colours += sign * step * gradient_of_colours / slope
            values.append((module.render(ids) * gradient).sum())
            colours -= sign * step * gradient_of_colours / slope
    torch.testing.assert_close((values[0] - values[1]) / (2 * step), slope, rtol=0.01, atol=0)


@pytest.mark.parametrize("method", ["sds", "csd", "dds"])
def test_scenes_move_straight_through_their_cameras_and_resume(tmp_path, method):
    overrides = (*SCENE, f"method={method}", "data.views=2", "trainer.max_steps=4")
    whole = run(tmp_path / "whole", *overrides)
    assert not torch.equal(parameters(whole.scene), parameters(whole.source_scene))
    checkpoint = unfinished(tmp_path / "half", 2, *overrides)
    resumed = run(tmp_path / "resumed", *overrides, checkpoint=checkpoint)
    for name in ("scene", "source_scene"):
        expected, found = getattr(whole, name), getattr(resumed, name)
        assert torch.equal(parameters(expected), parameters(found))


def test_a_reconstruction_is_taken_from_its_run(tmp_path):
    overrides = ("experiment=reconstruct", *SCENE, "data.instruction=''", "trainer.max_steps=6")
    taken = [part for part in overrides if not part.startswith(("modality.recipe.steps", "prompt"))]
    made = run(tmp_path / "made", *taken)
    assert made.trainer.global_step == 6
    _, module, trainer = built(
        tmp_path / "edit",
        *(*ROUNDS, f"modality.recipe.reconstruction={tmp_path / 'made'}"),
    )
    module.trainer = trainer
    module.setup("fit")
    for scene in (module.scene, module.source_scene):
        assert torch.equal(parameters(scene), parameters(made.scene))
    assert int(module.fitter.taken) == 0
    other = (*ROUNDS, f"modality.recipe.reconstruction={tmp_path / 'made'}", "field.resolution=8")
    _, module, trainer = built(tmp_path / "other", *other)
    module.trainer = trainer
    with pytest.raises(ValueError, match="holds another kind of scene"):
        module.setup("fit")


def test_a_reconstruction_of_fewer_views_is_the_same_scene(tmp_path):
    """Where a scene lies is that of the views that it was made from."""
    made = run(tmp_path / "made", "experiment=reconstruct", *RECONSTRUCTION, "trainer.max_steps=3")
    taken = f"modality.recipe.reconstruction={tmp_path / 'made'}"
    module = run(tmp_path / "taken", *IMAGES, "trainer.max_steps=2", "data.count=4", taken)
    assert torch.equal(module.source_scene.field.centre, made.scene.field.centre)
    assert torch.equal(module.source_scene.field.scale, made.scene.field.scale)
    points = torch.rand(20, 3)
    assert torch.equal(module.source_scene.field.density(points), made.scene.field.density(points))


@pytest.mark.parametrize("change", [{"centre": 5.0}, {"scale": 3.0}])
def test_a_reconstruction_of_another_capture_is_refused(tmp_path, change):
    made = run(tmp_path / "made", "experiment=reconstruct", *RECONSTRUCTION, "trainer.max_steps=1")
    saved = torch.load(RunFolder(tmp_path / "made").checkpoint, weights_only=True)
    for name, by in change.items():
        key = next(key for key in saved["state_dict"] if key.endswith(f"field.{name}"))
        saved["state_dict"][key] = saved["state_dict"][key] * by + by
    torch.save(saved, RunFolder(tmp_path / "made").checkpoint)
    assert made.trainer.global_step == 1
    taken = f"modality.recipe.reconstruction={tmp_path / 'made'}"
    _, module, trainer = built(tmp_path / "edit", *IMAGES, taken)
    module.trainer = trainer
    with pytest.raises(ValueError, match="holds the scene of another capture"):
        module.setup("fit")


def test_an_edit_is_no_reconstruction(tmp_path):
    edit = ("experiment=colours", "trainer.max_steps=1", "hydra.run.dir=x")
    run(tmp_path / "edit", *edit[:2])
    with pytest.raises(ValueError, match="a run of something else"):
        run(tmp_path / "scene", *SCENE, f"modality.recipe.reconstruction={tmp_path / 'edit'}")


def test_a_view_that_is_not_finite_stops_a_reconstruction(tmp_path):
    overrides = ("experiment=reconstruct", *RECONSTRUCTION, "trainer.max_steps=3")
    data, module, trainer = built(tmp_path, *overrides, callbacks=("guard",))
    module.images[:] = torch.nan
    before = parameters(module.scene).clone()
    with pytest.raises(NonFiniteGradientError, match="The loss of step 0 is not finite"):
        trainer.fit(module, data)
    assert torch.equal(parameters(module.scene), before)


@pytest.mark.parametrize("method", ["csd_edit_best", "dds"])
def test_a_scene_s_negative_prompt_reaches_the_prior(tmp_path, method):
    _, module, _ = built(tmp_path, *SCENE, f"method={method}", "modality.negative_prompt=blur")
    assert module.conditioning(torch.arange(2)).negative_prompt == "blur"


def test_nothing_is_asked_of_a_reconstruction(tmp_path):
    with pytest.raises(ValueError, match="prompt must not be given to modality=reconstruction"):
        built(tmp_path, "experiment=reconstruct", *RECONSTRUCTION, "data.instruction=make it sepia")


def test_a_reconstruction_resumes(tmp_path):
    overrides = ("experiment=reconstruct", *RECONSTRUCTION, "trainer.max_steps=6")
    whole = run(tmp_path / "whole", *overrides)
    checkpoint = unfinished(tmp_path / "half", 4, *overrides)
    resumed = run(tmp_path / "resumed", *overrides, checkpoint=checkpoint)
    assert torch.equal(parameters(whole.scene), parameters(resumed.scene))
