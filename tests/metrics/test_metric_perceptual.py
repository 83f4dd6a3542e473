"""The perceptual distance against its formula in numpy, and real LPIPS against its package."""

import pickle
from pathlib import Path

import lpips
import numpy as np
import pytest
import torch
import torchvision
from metric_cases import frames, one_answer

from csd_lab.metrics import (
    ClipFeatureDistance,
    Lpips,
    LpipsConsecutive,
    LpipsSource,
    OpenClip,
    perceptual_distance,
)
from csd_lab.metrics.base import images_at_once
from csd_lab.metrics.perceptual import PerceptualDistance, embedding, unit_difference

pytestmark = pytest.mark.filterwarnings(
    "ignore::UserWarning:torchvision", "ignore:Detected pickle protocol"
)


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in the place of torch.hub's checkpoints."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def with_random_trunk(net: str, checkpoints: Path) -> PerceptualDistance:
    """A distance whose ImageNet network, if it has one, has random weights."""
    if net in Lpips.TRUNKS:
        torch.manual_seed(0)
        name, weights = Lpips.TRUNKS[net]
        trunk = getattr(torchvision.models, name)(weights=None).state_dict()
        torch.save(trunk, checkpoints / weights.url.rsplit("/", 1)[1])
    return perceptual_distance(net)


def written_out(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """The formula for one pair, position by position."""
    total = 0.0
    for x, y in zip(a, b, strict=True):
        _, height, width = x.shape
        for i in range(height):
            for j in range(width):
                u = x[:, i, j] / max(np.sqrt((x[:, i, j] ** 2).sum()), 1e-10)
                v = y[:, i, j] / max(np.sqrt((y[:, i, j] ** 2).sum()), 1e-10)
                total += ((u - v) ** 2).sum() / (height * width)
    return total


def test_the_distance_is_the_formula_on_the_five_feature_maps(encoder: OpenClip) -> None:
    a, b = frames(2, 0, 48), frames(2, 1, 48)
    maps: list[torch.Tensor] = []
    visual = encoder.model.visual
    stages = (visual.avgpool, visual.layer1, visual.layer2, visual.layer3, visual.layer4)
    hooks = [stage.register_forward_hook(lambda *io: maps.append(io[2])) for stage in stages]
    for images in (a, b):
        encoder.stages(images)
    for hook in hooks:
        hook.remove()
    assert [m.shape[-1] for m in maps] == [12, 12, 6, 3, 1] * 2
    distance = ClipFeatureDistance(encoder)(a, b)
    for f in range(2):
        of_a, of_b = ([m[f].double().numpy() for m in part] for part in (maps[:5], maps[5:]))
        assert float(distance[f]) == pytest.approx(written_out(of_a, of_b), rel=1e-5)


def test_the_formula_is_that_of_the_lpips_package_without_its_weights() -> None:
    torch.manual_seed(0)
    package = lpips.LPIPS(net="squeeze", lpips=False, pnet_rand=True, verbose=False)
    a, b = frames(2, 0, 64), frames(2, 1, 64)
    with torch.no_grad():
        expected = package(a, b, normalize=True).flatten()
        maps = [list(package.net(package.scaling_layer(2 * x - 1))) for x in (a, b)]
        torch.testing.assert_close(unit_difference(*maps), expected)


def test_equal_images_are_at_0_and_the_distance_is_symmetric(encoder: OpenClip) -> None:
    distance = ClipFeatureDistance(encoder, max_batch=2)
    a, b = frames(3, 0), frames(3, 1)
    torch.testing.assert_close(distance(a, a), torch.zeros(3), atol=1e-6, rtol=0)
    torch.testing.assert_close(distance(a, b), distance(b, a))
    assert (distance(a, b) > 1e-3).all()
    assert (distance(a, b) <= 10).all()
    whole = ClipFeatureDistance(encoder, max_batch=64)
    torch.testing.assert_close(distance(a, b), whole(a, b), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("size", "most", "expected"),
    [
        ((64, 64), 16, 16),
        ((512, 512), 16, 16),
        ((1024, 1024), 16, 4),
        ((1080, 1920), 16, 2),
        ((2048, 8192), 16, 1),
        ((1024, 1024), 2, 2),
    ],
)
def test_large_images_are_taken_fewer_at_once(
    size: tuple[int, int], most: int, expected: int
) -> None:
    assert images_at_once(torch.empty(1, 3, *size, device="meta"), most) == expected


def test_how_many_are_taken_at_once_changes_nothing(
    encoder: OpenClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    distance, a, b = ClipFeatureDistance(encoder), frames(5, 0, 48), frames(5, 1, 48)
    whole, rows = distance(a, b), distance.embed(a)
    taken: list[int] = []
    stage = encoder.model.visual.layer1
    hook = stage.register_forward_hook(lambda *io: taken.append(len(io[2])))
    monkeypatch.setattr("csd_lab.metrics.base.PIXELS_AT_ONCE", 2 * 48 * 48)
    torch.testing.assert_close(distance(a, b), whole, rtol=1e-5, atol=1e-6)
    assert taken == [2, 2, 2, 2, 1, 1]  # of each pair both
    torch.testing.assert_close(distance.embed(a), rows, rtol=1e-4, atol=1e-5)
    assert taken[6:] == [2, 2, 1]
    hook.remove()


@pytest.mark.parametrize("net", ["tiny", "alex", "vgg", "squeeze"])
def test_the_distance_is_the_squared_one_of_the_rows(checkpoints: Path, net: str) -> None:
    distance = with_random_trunk(net, checkpoints)
    a, b = frames(3, 0, 48), frames(3, 1, 48)
    f, g = distance.embed(a), distance.embed(b)
    torch.testing.assert_close((f - g).square().sum(1), distance(a, b), rtol=1e-4, atol=1e-7)
    assert (distance(a, b) > 1e-4).all()
    distance.max_batch = 2
    torch.testing.assert_close(distance.embed(a), f, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("net", ["tiny", "alex", "vgg", "squeeze"])
def test_the_rows_are_differentiable_also_where_nothing_is_to_be_seen(
    checkpoints: Path, net: str
) -> None:
    distance = with_random_trunk(net, checkpoints)
    images = torch.cat([frames(1, 0, 48), torch.zeros(1, 3, 48, 48), torch.ones(1, 3, 48, 48)])
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(distance.embed(images)[:, ::3].sum(), images)
    assert gradient.isfinite().all()
    assert gradient[0].any()
    assert all(not parameter.requires_grad for parameter in distance.parameters())


def test_features_without_length_have_a_row_and_a_gradient() -> None:
    maps = torch.zeros(2, 4, 3, 3)
    maps[0, 1] = 2.0
    maps.requires_grad_()
    rows = embedding([maps])
    torch.testing.assert_close(rows.square().sum(1), torch.tensor([1.0, 0.0]))
    rows.relu().sum().backward()
    assert maps.grad is not None
    assert maps.grad.isfinite().all()


def test_a_larger_change_is_farther(encoder: OpenClip) -> None:
    distance, a, b = ClipFeatureDistance(encoder), frames(4, 0, 64), frames(4, 1, 64)
    values = [float(distance(a, a.lerp(b, w)).mean()) for w in (0.0, 0.1, 0.4, 1.0)]
    assert values == sorted(values)


def test_the_metrics_compare_with_the_source_and_with_the_next_frame(encoder: OpenClip) -> None:
    artefact, distance = one_answer(), ClipFeatureDistance(encoder)
    edited, source = artefact.edited, artefact.task.source
    single = [float(distance(edited[f][None], source[f][None])) for f in range(4)]
    following = [float(distance(edited[f][None], edited[f + 1][None])) for f in range(3)]
    np.testing.assert_allclose(LpipsSource(distance).per_frame(artefact), single, rtol=1e-4)
    assert float(LpipsSource(distance).value(artefact)) == pytest.approx(np.mean(single), rel=1e-4)
    consecutive = LpipsConsecutive(distance)
    np.testing.assert_allclose(consecutive.per_frame(artefact), following, rtol=1e-4)
    assert float(consecutive.value(artefact)) == pytest.approx(np.mean(following), rel=1e-4)
    still = artefact._replace(edited=edited[:1].expand(4, -1, -1, -1))
    assert float(consecutive.value(still)) == pytest.approx(0, abs=1e-6)


def test_the_tag_follows_the_network(encoder: OpenClip, vit_folder: Path) -> None:
    assert LpipsSource(ClipFeatureDistance(encoder)).name == "lpips_source_local_random_rn"
    with pytest.raises(ValueError, match="stages need a ModifiedResNet"):
        ClipFeatureDistance(OpenClip(f"local-dir:{vit_folder}"))


def test_images_of_different_or_too_small_shapes_are_refused(encoder: OpenClip) -> None:
    distance = ClipFeatureDistance(encoder)
    with pytest.raises(ValueError, match="one shape"):
        distance(frames(1, 0), frames(2, 0))
    with pytest.raises(ValueError, match="at least 32 x 32"):
        distance(frames(1, 0, 31), frames(1, 1, 31))
    with pytest.raises(ValueError, match="at least 32 x 32"):
        distance.embed(frames(1, 0, 31))
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        distance.embed(2 * frames(1, 0, 48))


def test_real_lpips_equals_its_package(checkpoints: Path) -> None:
    torch.manual_seed(0)
    trunk = torchvision.models.squeezenet1_1(weights=None).state_dict()
    torch.save(trunk, checkpoints / Lpips.TRUNKS["squeeze"][1].url.rsplit("/", 1)[1])
    ours = perceptual_distance("squeeze")
    assert ours.tag == "squeeze"
    package = lpips.LPIPS(net="squeeze", verbose=False)
    a, b = frames(3, 0, 64), frames(3, 1, 64)
    with torch.no_grad():
        expected = package(a, b, normalize=True).flatten()
    torch.testing.assert_close(ours(a, b), expected)
    assert not any(parameter.requires_grad for parameter in ours.parameters())


@pytest.mark.parametrize(
    ("net", "file"),
    [("alex", "alexnet-owt-7be5be79.pth"), ("vgg", "vgg16-397923af.pth")],
)
def test_missing_trunks_are_named_with_the_offline_choice(
    checkpoints: Path, net: str, file: str
) -> None:
    with pytest.raises(ValueError, match=f"{file} does not exist.*backbone=tiny") as caught:
        perceptual_distance(net)
    assert "\n" not in str(caught.value)


class Marker:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_damaged_and_hostile_trunks_are_refused(checkpoints: Path, tmp_path: Path) -> None:
    path, marker = checkpoints / "squeezenet1_1-b8a52dc0.pth", tmp_path / "unpickled"
    for content in (b"", b"PK\x03\x04 cut", pickle.dumps(Marker(marker))):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"damaged.*backbone=tiny") as caught:
            Lpips("squeeze")
        assert "\n" not in str(caught.value)
    torch.save({"features.0.weight": Marker(marker)}, path)
    with pytest.raises(ValueError, match="damaged"):
        Lpips("squeeze")
    assert not marker.exists()
    torch.save({"other": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="damaged"):
        Lpips("squeeze")


def test_an_unknown_backbone_is_refused_with_those_that_exist() -> None:
    with pytest.raises(ValueError, match=r"tiny.*alex.*vgg.*squeeze.*got 'resnet'"):
        perceptual_distance("resnet")
    with pytest.raises(ValueError, match=r"alex.*got 'resnet'"):
        Lpips("resnet")
