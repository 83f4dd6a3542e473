"""Facts of prompts that are followed one after the other."""

import pytest
import torch
from small_fits import fit
from test_canvas import canvas, every, mixture, picture

from csd_lab.particles import VideoParticles

S = 3
"""Steps for each prompt."""


def in_turn(prompt=("dark", "bright"), **options):
    return canvas(picture(6, 10), prompt, edit=True, steps_per_prompt=S, **options)


def run(module, steps, checkpoint=None):
    batches = [torch.tensor([k % 7, 7 + k]) for k in range(2 * S)]
    first = 0 if checkpoint is None else torch.load(checkpoint)["global_step"]
    rest = [*batches[first:], *batches[:first]]  # Lightning counts what was done, without skipping
    return fit(module, rest, checkpoint, steps)


def test_the_second_prompt_starts_from_what_the_first_one_left():
    first, _ = run(in_turn("dark"), S)
    both, _ = run(in_turn(), 2 * S)
    assert both.prompt == "bright"
    assert torch.equal(both.source_latents, first.latents)
    torch.testing.assert_close(both.condition, first.prior.condition(first.export()))
    assert not torch.equal(both.latents, both.source_latents)
    assert torch.equal(both.export_source(), first.export_source())  # that of the user


def test_the_second_prompt_is_followed_as_in_a_run_of_its_own():
    """The exact prior's latents are its images, which coding does not change.

    It reads captions, and the first prompt is the caption of what the second one starts from.
    """
    first, _ = run(in_turn("dark", lr=0.01), S)
    both, _ = run(in_turn(lr=0.01), 2 * S)
    batches = [torch.tensor([k % 7, 7 + k]) for k in range(S, 2 * S)]
    image = first.latents.detach()
    assert torch.equal(first.export(), image)  # within [0, 1]
    alone, _ = fit(canvas(image, "bright", edit=True, lr=0.01, source_prompt="dark"), batches)
    assert torch.equal(both.latents, alone.latents)


def test_one_prompt_is_followed_until_it_is_done():
    first, _ = run(in_turn("dark"), S)
    stopped, _ = run(in_turn(), S)
    assert stopped.prompt == "dark"
    assert torch.equal(stopped.latents, first.latents)


@pytest.mark.parametrize("half", [S - 1, S, S + 1])
def test_a_resumed_run_equals_an_uninterrupted_one(half, tmp_path):
    whole, _ = run(in_turn(), 2 * S)
    _, trainer = run(in_turn(), half)
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed, _ = run(in_turn(), 2 * S, tmp_path / "half.ckpt")
    assert torch.equal(whole.latents, resumed.latents)
    assert torch.equal(whole.source_latents, resumed.source_latents)


def test_optimiser_and_learning_rate_begin_anew():
    module = in_turn(lr=1.0)
    rates = []
    module._optimizer = lambda parameters: torch.optim.Adam(parameters, lr=1.0)
    module._scheduler = lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5)
    step = type(module).on_before_optimizer_step

    def noted(optimizer):
        steps = [int(state["step"]) for state in optimizer.state.values()]
        rates.append((optimizer.param_groups[0]["lr"], steps))
        step(module, optimizer)

    module.on_before_optimizer_step = noted
    run(module, 2 * S)
    once = [(1.0, []), (0.5, [1]), (0.25, [2])]
    assert rates == once * 2


def test_frames_of_a_clip_follow_prompts_in_turn_as_well():
    frames = torch.cat([picture(4, 4, seed) for seed in range(3)])
    options = {"cls": VideoParticles, "edit": True, "kernel": False, "steps_per_prompt": 200}
    module = canvas(frames, ["bright", "dark"], lr=0.05, prior=mixture(image_noise=9.0), **options)
    batches = [torch.arange(3)] * 400
    means = []
    for steps in (200, 400):
        fit(module, batches, steps=steps)
        means.append(float(module.export().mean()))
    source = float(frames.mean())
    assert means[0] > source + 0.05
    assert means[1] < means[0] - 0.05


def test_several_prompts_need_to_know_their_steps():
    with pytest.raises(ValueError, match="steps_per_prompt >= 1"):
        canvas(picture(6, 10), ["dark", "bright"])


def test_a_checkpoint_of_one_prompt_holds_the_latents_alone(tmp_path):
    module = in_turn("dark")
    _, trainer = fit(module, [every(module)])
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    assert set(torch.load(tmp_path / "last.ckpt")["state_dict"]) == {"latents"}
