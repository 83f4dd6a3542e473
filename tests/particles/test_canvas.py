"""Facts of the canvas modality: windows, regions and rings, with exact priors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_fits import fit

from csd_lab.canvas import Box, Mask, PromptedRegion, Strip
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


@pytest.mark.parametrize("taper", ["constant", "hann"])
def test_a_step_moves_each_latent_by_the_mean_over_its_windows(taper):
    module = canvas(picture(6, 10), lr=1.0, taper=taper)
    weights = module.grid.weights
    ids = torch.tensor([0, 1, 5, 7])
    _, trainer = fit(module, [ids])
    assert trainer.global_step == 1
    moves, weight, held = torch.zeros(3, 6, 10), torch.zeros(6, 10), torch.zeros(6, 10)
    all_weight, all_held = torch.zeros(6, 10), torch.zeros(6, 10)
    for place in module.grid.origins:
        rows, columns = (slice(int(start), int(start) + WINDOW) for start in place)
        all_weight[rows, columns] += weights
        all_held[rows, columns] += 1
    gradients = module.latest.distillation.gradient
    for place, gradient in zip(module.grid.origins[ids], gradients, strict=True):
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


def test_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    image = picture(6, 10)
    batches = [torch.tensor([k % 7, 7 + k]) for k in range(6)]
    whole, _ = fit(canvas(image), batches)
    _, trainer = fit(canvas(image), batches[:3])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    rest = [*batches[3:], *batches[:3]]  # Lightning counts what was done, but does not skip it
    resumed, _ = fit(canvas(image), rest, tmp_path / "last.ckpt")
    assert not torch.equal(whole.latents, whole.source_latents)
    assert torch.equal(whole.latents, resumed.latents)


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


def test_a_prompt_is_evaluated_where_it_has_a_share_alone():
    """Of 13 windows 5 see the left strip alone, 5 the right one, 3 both; each source once."""
    image = picture(WINDOW, 16)
    regions = [PromptedRegion("dark", Strip(0, 2)), PromptedRegion("bright", Strip(1, 2))]
    module = canvas(image, regions=regions, stride=1, edit=True)
    seen = [len(set(row.nonzero()[:, 0].tolist())) for row in module.shares]
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
    torch.testing.assert_close(by_mask.shares, by_box.shares)
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
