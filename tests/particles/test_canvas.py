"""Facts of the canvas modality: windows, regions and rings, with exact priors."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from small_fits import fit

from csd_lab.build import module_of
from csd_lab.canvas import Box, Mask, PromptedRegion, Strip
from csd_lab.data import ImageFile, write_image
from csd_lab.distill import (
    RBF,
    Bandwidth,
    ClassifierFree,
    CollaborativeScoreDistillation,
    DualGuidance,
    NoiseResidual,
    ScoreDistillation,
    SigmaSquared,
    SourceResidual,
    UniformTimesteps,
    VariancePreserving,
    places_generator,
)
from csd_lab.particles import CanvasParticles, VideoParticles
from csd_lab.priors import GaussianMixture

WINDOW = 4
MEANS = torch.tensor([0.3, 0.7])


def mixture(window=WINDOW, **options):
    means = MEANS[:, None, None, None].expand(-1, 3, window, window).contiguous()
    schedule = VariancePreserving.scaled_linear()
    prompts = {"dark": [1.0, 0.0], "bright": [0.0, 1.0]}
    return GaussianMixture(means, schedule, scales=0.1, prompts=prompts, **options)


def picture(height, width, seed=1):
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed))


def canvas(image, prompt="dark", cls=CanvasParticles, edit=False, kernel=True, lr=0.5, **options):
    """A module; with ``edit`` it compares with its source, under an image condition."""
    prior = options.pop("prior", None) or mixture(image_noise=0.5 if edit else None)
    guidance = DualGuidance(2.0, 1.5) if edit else ClassifierFree(1.0)
    residual = (SourceResidual if edit else NoiseResidual)(guidance)
    weight = SigmaSquared()
    distiller = (
        CollaborativeScoreDistillation(residual, RBF(Bandwidth()), weight, normalize="row")
        if kernel
        else ScoreDistillation(residual, weight)
    )
    return cls(
        image,
        prompt,
        prior=prior,
        distiller=distiller,
        timesteps=UniformTimesteps(20, 500),
        optimizer=lambda parameters: torch.optim.SGD(parameters, lr=lr),
        **options,
    )


def every(module):
    return torch.arange(len(module.grid))


def fitted(module, steps=4):
    return fit(module, [every(module)] * steps)[0]


@pytest.mark.parametrize("edit", [False, True])
@pytest.mark.parametrize("taper", ["constant", "hann"])
def test_an_image_of_one_window_is_a_clip_of_one_frame(edit, taper):
    image = picture(WINDOW, WINDOW)
    alone = canvas(image, edit=edit, taper=taper)
    assert len(alone.grid) == 1
    clip, _ = fit(canvas(image, cls=VideoParticles, edit=edit), [torch.tensor([0])] * 4)
    rounding = 0 if taper == "constant" else 1e-6
    torch.testing.assert_close(fitted(alone).latents, clip.latents, rtol=0, atol=rounding)
    plain = fitted(canvas(image, edit=edit, kernel=False))
    torch.testing.assert_close(alone.latents, plain.latents, rtol=0, atol=1e-6)  # SDS, or DDS


def test_windows_without_overlap_are_a_clip_of_them():
    image = picture(WINDOW, 3 * WINDOW)
    windows = torch.cat(image.split(WINDOW, dim=3))
    module = fitted(canvas(image, overlap=0.0))
    clip, _ = fit(canvas(windows, cls=VideoParticles), [torch.arange(3)] * 4)
    together = torch.cat(list(clip.latents), dim=2)[None]
    torch.testing.assert_close(module.latents, together, rtol=0, atol=1e-6)


def laid(module, step):
    """Where the windows of a step lie."""
    random = places_generator(module.seed, step)
    shift = tuple(int(random.integers(reach.start, reach.stop)) for reach in module.grid.reach)
    return module.grid.shifted(shift) if module.shift else module.grid


@pytest.mark.parametrize("taper", ["constant", "hann"])
@pytest.mark.parametrize("shift", [False, True])
def test_a_step_moves_each_latent_by_the_mean_over_its_windows(taper, shift):
    module = canvas(picture(8, 12), lr=1.0, taper=taper, overlap=0.5, shift=shift, seed=1)
    assert torch.equal(laid(module, 0).origins, module.grid.origins) is not shift
    weights, origins = module.grid.weights, laid(module, 0).origins
    ids = torch.tensor([0, 1, 7, 8])
    _, trainer = fit(module, [ids])
    assert trainer.global_step == 1
    moves, weight, held = torch.zeros(3, 8, 12), torch.zeros(8, 12), torch.zeros(8, 12)
    all_weight, all_held = torch.zeros(8, 12), torch.zeros(8, 12)
    for place in origins:
        rows, columns = (slice(int(start), int(start) + WINDOW) for start in place)
        all_weight[rows, columns] += weights
        all_held[rows, columns] += 1
    gradients = module.latest.distillation.gradient
    for place, gradient in zip(origins[ids], gradients, strict=True):
        rows, columns = (slice(int(start), int(start) + WINDOW) for start in place)
        moves[:, rows, columns] -= weights * gradient
        weight[rows, columns] += weights
        held[rows, columns] += 1
    assert (held == 0).any()
    assert (held > 1).any()
    divisor = torch.maximum(weight, held * all_weight / all_held)
    expected = module.source_latents[0] + moves / torch.where(held > 0, divisor, 1)
    torch.testing.assert_close(module.latents[0], expected)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 11),
    width=st.integers(1, 11),
    window=st.integers(1, 6),
    overlap=st.floats(0, 0.95),
    wrap=st.booleans(),
)
def test_every_latent_of_any_canvas_is_edited(height, width, window, overlap, wrap):
    prior = mixture(window)
    image = picture(height, width)
    module = canvas(image, window=window, overlap=overlap, wrap=wrap, prior=prior)
    assert (module.grid.coverage(every(module)) > 0).all()
    assert module.parts(image, every(module)).shape[2:] == (
        min(window, height),
        min(window, width),
    )


@pytest.mark.parametrize("taper", ["constant", "hann"])
def test_the_order_of_a_batch_changes_nothing(taper):
    image, order = picture(6, 10), torch.tensor([3, 0, 6, 1])
    plain, _ = fit(canvas(image, taper=taper), [order.sort().values] * 3)
    permuted, _ = fit(canvas(image, taper=taper), [order] * 3)
    torch.testing.assert_close(plain.latents, permuted.latents, rtol=0, atol=1e-5)


def test_a_ring_has_no_first_column():
    image = picture(WINDOW, 12)
    options = {"wrap": True, "stride": 2, "noise": "shared", "taper": "hann"}
    plain = fitted(canvas(image, **options)).latents
    turned = fitted(canvas(image.roll(6, dims=3), **options)).latents
    torch.testing.assert_close(turned, plain.roll(6, dims=3), rtol=0, atol=1e-5)
    strip = fitted(canvas(image, **options | {"wrap": False})).latents
    assert not torch.allclose(strip, plain, atol=1e-3)


@pytest.mark.parametrize("options", [{}, {"overlap": 0.5, "shift": True}])
def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path, options):
    image = picture(8, 12)
    batches = [torch.tensor([k % 7, 7 + k]) for k in range(6)]
    whole, _ = fit(canvas(image, **options), batches)
    _, trainer = fit(canvas(image, **options), batches[:3])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    rest = [*batches[3:], *batches[:3]]  # Lightning counts what was done, but does not skip it
    resumed, _ = fit(canvas(image, **options), rest, tmp_path / "last.ckpt")
    assert not torch.equal(whole.latents, whole.source_latents)
    assert torch.equal(whole.latents, resumed.latents)


# --- windows that shift ------------------------------------------------------------------------


def test_windows_lie_where_the_seed_and_the_step_say():
    class Places(pl.Callback):
        def __init__(self):
            self.seen = []

        def on_before_zero_grad(self, trainer, module, optimizer):
            self.seen.append(module.windows.origins)

    options = {"overlap": 0.5, "shift": True, "kernel": False}
    seen = {}
    for seed in (0, 1):
        module, places = canvas(picture(8, 12), seed=seed, **options), Places()
        fit(module, [every(module)] * 6, callbacks=[places])
        expected = [laid(module, step).origins for step in range(6)]
        assert len(places.seen) == 6
        assert all(map(torch.equal, places.seen, expected))
        seen[seed] = torch.stack(places.seen)
        assert not torch.equal(seen[seed], module.grid.origins.expand_as(seen[seed]))
    assert not torch.equal(seen[0], seen[1])


def test_a_shift_changes_where_windows_end_and_nothing_else():
    """A canvas whose windows all stay at an end has nothing to shift."""
    image = picture(WINDOW, WINDOW + 1)
    plain, moved = (fitted(canvas(image, overlap=0.5, shift=shift)) for shift in (False, True))
    assert torch.equal(plain.latents, moved.latents)
    image = picture(8, 12)
    plain, moved = (fitted(canvas(image, overlap=0.5, shift=shift)) for shift in (False, True))
    assert torch.equal(plain.grid.origins, moved.grid.origins)
    assert not torch.allclose(plain.latents, moved.latents, atol=1e-3)


def test_shares_of_prompts_are_those_of_where_windows_lie():
    regions = [PromptedRegion("dark", Box(right=0.5))]
    options = {"regions": regions, "overlap": 0.5, "shift": True, "seed": 1, "edit": True}
    module = canvas(picture(8, 12), "bright", **options)
    assert not torch.equal(laid(module, 0).origins, module.grid.origins)
    ids = every(module)
    blend = module.conditioning(ids).prompt
    left = laid(module, 0).origins[:, 1]
    share = (6 - left).clamp(0, WINDOW) / WINDOW
    torch.testing.assert_close(blend.weights, torch.stack([share, 1 - share], 1))


def test_every_prompt_in_turn_has_the_shifts_of_a_run_of_its_own():
    options = {"overlap": 0.5, "shift": True, "edit": True, "lr": 0.01}
    image, steps = picture(8, 12), 3
    first = fitted(canvas(image, "dark", **options), steps)
    both = canvas(image, ["dark", "bright"], steps_per_prompt=steps, **options)
    fitted(both, 2 * steps)
    between = first.latents.detach()
    assert torch.equal(first.export(), between)  # within [0, 1], so coding changes nothing
    alone = fitted(canvas(between, "bright", source_prompt="dark", **options), steps)
    assert torch.equal(both.latents, alone.latents)


# --- regions -----------------------------------------------------------------------------------


def test_regions_with_one_prompt_are_that_prompt():
    image = picture(WINDOW, 12)
    halves = [PromptedRegion("bright", Strip(k, 2)) for k in range(2)]
    parted = fitted(canvas(image, prompt="dark", regions=halves, edit=True))
    plain = fitted(canvas(image, prompt="bright", edit=True))
    torch.testing.assert_close(parted.latents, plain.latents, rtol=0, atol=1e-5)


def test_every_region_follows_its_own_prompt():
    regions = [PromptedRegion("dark", Box(right=0.5)), PromptedRegion("bright", Box(left=0.5))]
    module = canvas(picture(WINDOW, 32), regions=regions, kernel=False, lr=0.05)
    fit(module, [every(module)] * 300)
    result = module.export()[0]
    left, right = result[..., :12], result[..., -12:]  # away from windows that see both
    assert (left.mean(), right.mean()) == pytest.approx((0.3, 0.7), abs=0.05)


def test_what_no_region_covers_follows_the_canvas_s_own_prompt():
    image, regions = picture(WINDOW, 32), [PromptedRegion("dark", Box(right=0.5))]
    module = canvas(image, "", regions=regions, kernel=False, edit=True)
    fitted(module, 2)
    moved = (module.latents - module.source_latents)[0].abs()
    out_of_reach = 16 + 2 * (WINDOW - 1)  # a step carries what moved as far as a window
    assert moved[..., out_of_reach:].max() < 1e-6  # the empty prompt, which is the source's own
    assert moved[..., : 16 - WINDOW].max() > 0.05


@pytest.mark.parametrize("keep", [False, True])
def test_what_is_kept_does_not_move_even_in_windows_that_reach_a_region(keep):
    image, regions = picture(WINDOW, 32), [PromptedRegion("dark", Box(right=0.5))]
    module = canvas(image, "", regions=regions, keep=keep, edit=True, shift=True)
    fitted(module, 3)
    moved = (module.latents - module.source_latents)[0].abs()
    assert bool(moved[..., 16:].any()) is not keep
    assert moved[..., :16].amin(dim=(0, 1)).min() > 0


def test_a_text_for_the_rest_is_followed_there_whatever_is_to_be_kept():
    image, regions = picture(WINDOW, 32), [PromptedRegion("dark", Box(right=0.5))]
    options = {"regions": regions, "edit": True}
    expected = fitted(canvas(image, "bright", **options))
    found = fitted(canvas(image, "bright", keep=True, **options))
    assert torch.equal(expected.latents, found.latents)


def test_what_is_kept_of_an_extended_image_is_what_no_region_covers(tmp_path):
    """An image of 6 x 20 pixels, 8 x 24 with what it is extended by; the middle is column 10."""
    write_image(tmp_path / "a.png", picture(6, 20)[0])
    regions = [PromptedRegion("dark", Box(left=0.5))]
    data = ImageFile(tmp_path / "a.png", None, regions=regions)
    prior = mixture(image_noise=0.5)
    prior.size_multiple = 8
    make = canvas(
        None,
        cls=lambda *_, **parts: partial(CanvasParticles, **parts),
        edit=True,
        regions=regions,
        keep=True,
    )
    config = {"regions": [{}], "prompt": None, "trainer": {"max_steps": 3}}
    module = module_of(OmegaConf.create(config), data, prior, make)
    expected = torch.tensor([0.0] * 10 + [1.0] * 14)
    torch.testing.assert_close(module.masks[0], expected.expand(8, -1))
    moved = (data.restore(fitted(module, 3).export()) - data.task.source)[0].abs()
    assert not moved[..., :10].any()
    assert moved[..., 10:].amin(dim=(0, 1)).min() > 0


def test_a_prompt_is_evaluated_where_it_has_a_share_alone():
    """Of 13 windows 5 see the left strip alone, 5 the right one, 3 both; each source once."""
    image = picture(WINDOW, 16)
    regions = [PromptedRegion("dark", Strip(0, 2)), PromptedRegion("bright", Strip(1, 2))]
    module = canvas(image, regions=regions, stride=1, edit=True)
    seen = [len(set(row.nonzero()[:, 0].tolist())) for row in module.shares(every(module))]
    assert (len(seen), seen.count(1), seen.count(2)) == (13, 10, 3)
    fit(module, [every(module)])
    both, own = 2 * 13, 2 * 13  # image and no image without text; and these of the sources
    assert module.prior.samples_evaluated == both + own + 10 + 2 * 3


def test_a_mask_is_a_region():
    drawn = torch.zeros(8, 24)
    drawn[:, 12:] = 1
    image = picture(WINDOW, 12)
    options = {"prompt": "dark", "edit": True}
    by_mask = canvas(image, regions=[PromptedRegion("bright", Mask(drawn))], **options)
    by_box = canvas(image, regions=[PromptedRegion("bright", Box(left=0.5))], **options)
    ids = every(by_mask)
    torch.testing.assert_close(by_mask.shares(ids), by_box.shares(ids))
    assert torch.equal(fitted(by_mask).latents, fitted(by_box).latents)


# --- what is refused ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "options", "told"),
    [
        (2, {}, "one image"),
        (1, {"overlap": 1.0}, "overlap"),
        (1, {"taper": "round"}, "taper must be one of"),
        (1, {"window": 0}, "window"),
        (1, {"window": [4]}, "window"),
        (1, {"window": 2, "stride": 3}, "stride must be at most the window"),
        (1, {"transition": -1.0, "regions": [PromptedRegion("dark", Box())]}, "transition"),
        (1, {"regions": [PromptedRegion("dark", Box(left=0.8, right=0.2))]}, "ring"),
        (
            1,
            {
                "prompt": ["dark", "bright"],
                "steps_per_prompt": 2,
                "regions": [PromptedRegion("dark", Box())],
            },
            "one text where there are regions",
        ),
    ],
)
def test_illegal_arguments_are_refused(frames, options, told):
    with pytest.raises(ValueError, match=told):
        canvas(picture(6, 6).expand(frames, -1, -1, -1), **options)


def test_accumulated_gradients_are_refused():
    module = canvas(picture(6, 6))
    with pytest.raises(ValueError, match="accumulate_grad_batches must be 1"):
        fit(module, [every(module)] * 2, accumulate_grad_batches=2)
