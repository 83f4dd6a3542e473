"""Any size goes to the prior's multiple and back to exactly itself."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_media import moving
from torch import Tensor

from csd_lab.data.fit import Fit

SIDES = st.integers(1, 90)
MULTIPLES = st.sampled_from([1, 2, 8, 16, 64])


def noise(height: int, width: int, frames: int = 2) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(frames, 3, height, width, generator=generator)


@given(SIDES, SIDES, MULTIPLES)
@settings(max_examples=60, deadline=None)
def test_extending_is_undone_exactly(height: int, width: int, multiple: int) -> None:
    frames = noise(height, width)
    fit = Fit((height, width), multiple)
    fitted = fit.apply(frames)
    assert tuple(fitted.shape[2:]) == fit.fitted
    assert all(side % multiple == 0 for side in fit.fitted)
    assert all(0 <= a - b < multiple for a, b in zip(fit.fitted, fit.size, strict=True))
    assert torch.equal(fit.restore(fitted, frames), frames)
    assert set(fitted.unique().tolist()) == set(frames.unique().tolist())


@given(SIDES, SIDES, MULTIPLES, st.integers(1, 90), st.sampled_from(["short", "long"]))
@settings(max_examples=60, deadline=None)
def test_resizing_restores_the_size_and_stays_in_range(
    height: int, width: int, multiple: int, resolution: int, side: str
) -> None:
    frames = noise(height, width)
    for detail in ("resize", "residual"):
        fit = Fit((height, width), multiple, resolution, side, detail)
        fitted = fit.apply(frames)
        assert tuple(fitted.shape[2:]) == fit.fitted
        assert all(length % multiple == 0 for length in fit.fitted)
        chosen = min(height, width) if side == "short" else max(height, width)
        for length, end in zip(fit.size, fit.fitted, strict=True):
            wanted = length * resolution / chosen
            assert abs(end - wanted) <= multiple / 2 or (end == multiple and wanted < multiple)
        restored = fit.restore(fitted, frames)
        assert restored.shape == frames.shape
        assert restored.min() >= 0
        assert restored.max() <= 1
        if detail == "residual":
            assert torch.allclose(restored, frames, atol=1e-6)


def test_mirroring_by_hand() -> None:
    row = torch.tensor([0.1, 0.2, 0.3]).expand(1, 3, 1, 3)
    fitted = Fit((1, 3), 8).apply(row)
    expected = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.1, 0.2, 0.3, 0.2])
    assert torch.equal(fitted, expected.expand(1, 3, 8, 8))


def test_known_sizes() -> None:
    assert Fit((360, 640), 8).fitted == (360, 640)
    assert Fit((360, 640), 64).fitted == (384, 640)
    assert Fit((360, 640), 16, 64).fitted == (64, 112)
    assert Fit((640, 360), 16, 64).fitted == (112, 64)
    assert Fit((360, 640), 64, 512, "long").fitted == (256, 512)
    assert Fit((64, 64), 8, 64).fitted == (64, 64)
    assert repr(Fit((360, 640), 64)) == "Fit(640x360 extended to 640x384)"


def test_nothing_to_do_is_the_same_tensor() -> None:
    frames = noise(64, 64)
    fit = Fit((64, 64), 8)
    assert fit.apply(frames) is frames
    assert fit.restore(frames, frames) is frames


def test_flat_frames_stay_flat() -> None:
    frames = torch.full((1, 3, 50, 70), 0.3)
    fit = Fit((50, 70), 8, 33)
    assert torch.allclose(fit.apply(frames), torch.tensor(0.3))
    assert torch.allclose(fit.restore(fit.apply(frames), frames), torch.tensor(0.3))


def test_smooth_frames_come_back_nearly() -> None:
    frames = moving(3, 90, 120)
    for detail in ("resize", "residual"):
        fit = Fit((90, 120), 8, 64, detail=detail)
        assert (fit.restore(fit.apply(frames), frames) - frames).abs().max() < 0.02


def test_residual_carries_a_look_over_to_the_sharp_source() -> None:
    """Darkening a small copy darkens the large frames, down to their single pixels."""
    frames = 0.3 + 0.5 * noise(128, 128)
    exact = frames - 0.2
    errors = {}
    for detail in ("resize", "residual"):
        fit = Fit((128, 128), 8, 32, detail=detail)
        errors[detail] = (fit.restore(fit.apply(frames) - 0.2, frames) - exact).abs().max().item()
    assert errors["residual"] < 1e-5
    assert errors["resize"] > 0.1


def test_residual_against_a_reference_leaves_its_loss_out() -> None:
    frames = 0.4 + 0.2 * noise(64, 64)
    fit = Fit((64, 64), 8, 32, detail="residual")
    lossy = fit.apply(frames) * 0.9
    assert torch.allclose(fit.restore(lossy, frames, lossy), frames, atol=1e-6)
    assert not torch.allclose(fit.restore(lossy, frames), frames, atol=1e-2)


def test_any_leading_axes() -> None:
    targets = noise(30, 40, 6).reshape(2, 3, 3, 30, 40)
    for resolution in (None, 24):
        fit = Fit((30, 40), 8, resolution)
        fitted = fit.apply(targets)
        assert fitted.shape == (2, 3, 3, *fit.fitted)
        assert torch.equal(fitted[1, 2], fit.apply(targets[1, 2]))
        assert fit.restore(fitted, targets).shape == targets.shape


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"size": (0, 5), "multiple": 8}, "height must be a whole number of at least 1, got 0"),
        ({"size": (5, 5), "multiple": 0}, "multiple must be a whole number of at least 1, got 0"),
        ({"size": (5, 5), "multiple": 8, "resolution": -1}, "resolution must be .* got -1"),
        ({"size": (5, 5), "multiple": 8, "resolution": 9.5}, "resolution must be .* got 9.5"),
        (
            {"size": (5, 5), "multiple": 8, "side": "up"},
            "side must be one of short, long",
        ),
        ({"size": (5, 5), "multiple": 8, "detail": "x"}, "detail must be one of resize, residual"),
        ({"size": (1, 5000), "multiple": 8, "resolution": 512}, "2560000x512 from 5000x1"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Fit(**arguments)


def test_frames_of_another_size() -> None:
    fit = Fit((30, 40), 8, 64)
    with pytest.raises(ValueError, match=r"30 x 40 pixels \(H x W\), got shape \(2, 3, 40, 30\)"):
        fit.apply(noise(40, 30))
    with pytest.raises(ValueError, match="64 x 88 pixels"):
        fit.restore(noise(30, 40), noise(30, 40))
