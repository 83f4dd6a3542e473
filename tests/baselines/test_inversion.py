"""Inversion against DDIM's own steps and an exact prior; the cache of maps, in bytes."""

import os
import re
import sys
from math import inf
from pathlib import Path

import pytest
import torch
from inverted import DDIM, coded, edit, embedded, images, psnr, tiny, world_clip

from csd_lab.baselines import SCHEDULERS, AttentionEdit, DiffusersScheduler, PromptToPrompt
from csd_lab.baselines.attention import attentions, hooked
from csd_lab.baselines.inversion import (
    KeepMaps,
    MapCache,
    invert,
    map_bytes,
    map_shapes,
    step_up,
)
from csd_lab.distill import ClassifierFree, Query, VariancePreserving
from csd_lab.priors import GaussianMixture
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix
from csd_lab.priors.stable_diffusion import StableDiffusion

PLAIN = AttentionEdit(cross_replace=0, self_replace=0, blend_words=[])


@pytest.mark.parametrize("spacing", ["leading", "trailing", "linspace"])
@pytest.mark.parametrize("to_one", [True, False])
def test_a_step_up_is_the_inverse_of_ddim_s_step(tiny_sd_folder, spacing, to_one):
    make = DiffusersScheduler("DDIMScheduler", timestep_spacing=spacing, set_alpha_to_one=to_one)
    scheduler = make(tiny(tiny_sd_folder).scheduler_config)
    scheduler.set_timesteps(20)
    x, noise = images(2, 8), images(2, 8, seed=1)
    for t in scheduler.timesteps:
        below = scheduler.step(noise, t, x).prev_sample
        torch.testing.assert_close(step_up(scheduler, noise, t, below), x, rtol=1e-4, atol=1e-4)


def test_inversion_of_an_exact_prior_is_of_first_order():
    """What sampling makes of the inverted noise comes nearer to the source in proportion to N."""
    prior = GaussianMixture(
        torch.rand(1, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)),
        VariancePreserving.scaled_linear(),
        scales=0.3,
    )
    clean = images(4, 4).double()
    errors = []
    for steps in (25, 50, 100):
        scheduler = DDIM(prior.scheduler_config)
        scheduler.set_timesteps(steps)
        x = invert(prior, scheduler, clean, "")[-1]
        for t in scheduler.timesteps:
            (noise,) = prior.predict_noise([Query(x, "", None)], t)
            x = scheduler.step(noise, t, x).prev_sample
        errors.append(float((x - clean).abs().max()))
    assert errors[0] < 0.3
    assert errors[1] == pytest.approx(errors[0] / 2, rel=0.1)
    assert errors[2] == pytest.approx(errors[1] / 2, rel=0.1)


def test_the_embedded_prior_gives_back_the_source_without_guidance():
    """35.0 dB to the autoencoded source with 20 steps, 41.5 with 50."""
    task = world_clip()
    found = {}
    for steps, scale in ((20, 1.0), (50, 1.0), (20, 5.0)):
        sampler = PromptToPrompt(ClassifierFree(scale), DDIM, steps, PLAIN)
        caption = task.source_caption
        result = edit(sampler, embedded(), task.source, caption, caption)
        found[steps, scale] = psnr(result, coded(embedded(), task.source))
    assert found[20, 1.0] > 33
    assert found[50, 1.0] > 39
    assert found[20, 5.0] < found[20, 1.0] - 5  # guidance amplifies what inversion left out


def filled(prior, folder=None, limit=inf) -> MapCache:
    """The maps of two steps."""
    shapes = map_shapes(prior.unet, 3, (8, 8), 16, limit)
    cache = MapCache([shapes, shapes], torch.float32, folder)
    for step in range(2):
        x = images(3, 8, seed=step)[:, [0, 1, 2, 0]]
        with hooked(prior.unet, maps=KeepMaps(cache, step)):
            prior.predict_noise([Query(x, "a cat", None)], torch.tensor(100))
    return cache


def test_bytes_of_the_cache_are_known_before(tiny_sd_folder, tmp_path):
    prior = tiny(tiny_sd_folder)
    needed = map_bytes([map_shapes(prior.unet, 3, (8, 8), 16, inf)] * 2, torch.float32)
    heads = sum(a.heads for p, a in attentions(prior.unet).items() if not p.cross)
    assert needed == 2 * 4 * 3 * heads * (4 * 4) * (16 + 4 * 4)
    assert filled(prior).nbytes == needed
    assert filled(prior, tmp_path).nbytes == needed


@pytest.mark.parametrize("max_batch", [1, 2])
def test_maps_in_files_are_those_in_memory_in_chunks_too(tiny_sd_folder, tmp_path, max_batch):
    in_memory, in_files = (
        filled(tiny(tiny_sd_folder)),
        filled(tiny(tiny_sd_folder, max_batch), tmp_path),
    )
    for step in range(2):
        for place in in_memory.pages[step]:
            torch.testing.assert_close(
                in_files.get(step, place), in_memory.get(step, place), rtol=0, atol=1e-4
            )
    assert not torch.equal(in_memory.get(0, place), in_memory.get(1, place))


def test_places_of_more_queries_are_left_out(tiny_sd_folder):
    unet = tiny(tiny_sd_folder).unet
    assert not map_shapes(unet, 3, (8, 8), 16, 15)
    assert len(map_shapes(unet, 3, (8, 8), 16, 16)) == len(attentions(unet))


def mapped_under(folder) -> int:
    """Bytes of files in a folder that are mapped into this process, and have no name any more."""
    found = re.findall(
        rf"^(\w+)-(\w+) .* {re.escape(str(folder))}/.* \(deleted\)$",
        Path("/proc/self/maps").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    return sum(int(stop, 16) - int(start, 16) for start, stop in found)


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel what is mapped")
def test_files_leave_nothing_behind_not_even_when_the_process_is_killed(tiny_sd_folder, tmp_path):
    """So it is because the folder is empty all the time: the system knows the files alone."""
    cache = filled(tiny(tiny_sd_folder), tmp_path / "new")
    assert mapped_under(tmp_path / "new") >= cache.nbytes
    assert not list((tmp_path / "new").iterdir())
    del cache
    assert mapped_under(tmp_path / "new") == 0


def test_a_folder_without_room_is_refused(tiny_sd_folder, tmp_path):
    shapes = map_shapes(tiny(tiny_sd_folder).unet, 10**12, (8, 8), 16, inf)
    with pytest.raises(ValueError, match=r"cache must be a folder with room for .* GB"):
        MapCache([shapes] * 50, torch.float32, tmp_path)


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="asks the system for room")
def test_a_disk_that_others_have_filled_meanwhile_is_told(tiny_sd_folder, tmp_path):
    """As a limit on the size of files has it, for the room itself is everybody's."""
    resource = pytest.importorskip("resource")
    shapes = map_shapes(tiny(tiny_sd_folder).unet, 3, (8, 8), 16, inf)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(ValueError, match=r"cache must be a folder with room .*: take another"):
            MapCache([shapes], torch.float32, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def make(scheduler=DDIM) -> PromptToPrompt:
    return PromptToPrompt(ClassifierFree(3.0), scheduler, 4, AttentionEdit())


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if name != "DDIMScheduler"])
def test_other_schedulers_are_refused(tiny_sd_folder, name):
    with pytest.raises(ValueError, match=rf"sampler must be ddim for PromptToPrompt.*{name}"):
        make(DiffusersScheduler(name)).bind(tiny(tiny_sd_folder))


def test_a_scheduler_that_clips_is_refused(tiny_sd_folder):
    clipping = DiffusersScheduler("DDIMScheduler", clip_sample=True)
    with pytest.raises(ValueError, match="sampler must not clip"):
        make(clipping).bind(tiny(tiny_sd_folder))


def test_priors_that_do_not_fit_are_refused(tiny_ip2p_folder, tiny_sd_folder):
    schedule = VariancePreserving.scaled_linear()
    exact = GaussianMixture(torch.zeros(1, 3, 4, 4), schedule, scales=1.0)
    with pytest.raises(ValueError, match=r"prior must be a text-to-image.*got InstructPix2Pix"):
        make().bind(InstructPix2Pix(tiny_ip2p_folder))
    with pytest.raises(ValueError, match=r"prior must be a text-to-image.*got GaussianMixture"):
        make().bind(exact)
    with pytest.raises(ValueError, match=r"prior\.compile must be false"):
        make().bind(StableDiffusion(tiny_sd_folder, compile=True))


def test_captions_of_several_frames_are_refused(tiny_sd_folder):
    with pytest.raises(ValueError, match="prompt must be one text for all frames, got 3 texts"):
        edit(make(), tiny(tiny_sd_folder), images(), ("a", "b", "c"))
