"""What every component must hold; components are found by their config files."""

import csv
import json

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from test_configs import DELTAS, composed

from csd_lab import world
from csd_lab.composition import config_folder
from csd_lab.data import write_image
from csd_lab.distill import Radial, Sampler


def choices(group):
    return sorted(path.stem for path in (config_folder() / group).glob("*.yaml"))


@pytest.fixture(params=choices("kernel"))
def kernel(request):
    return instantiate(composed(f"kernel={request.param}").kernel)


def points(count, dtype=torch.float64):
    generator = torch.Generator().manual_seed(count)
    return torch.randn(count, 6, generator=generator, dtype=torch.float64).to(dtype)


def test_a_kernel_is_symmetric_and_positive_semidefinite(kernel):
    matrix = kernel(points(9)).matrix
    torch.testing.assert_close(matrix, matrix.T, rtol=0, atol=0)
    torch.testing.assert_close(matrix.diagonal(), torch.ones(9, dtype=torch.float64))
    assert torch.linalg.eigvalsh(matrix).min() > -1e-12


def test_the_repulsion_is_the_gradient_of_the_kernel(kernel):
    x = points(5)
    output = kernel(x)
    if isinstance(kernel, Radial):

        def pair(a, b):
            return kernel.profile((a - b).square().sum(), output.bandwidth).value

        expected = torch.stack(
            [sum(torch.func.grad(pair)(x[j], x[i]) for j in range(5) if j != i) for i in range(5)]
        )
    else:
        expected = torch.zeros_like(x)
    torch.testing.assert_close(output.repulsion, expected)


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16])
def test_few_particles_are_legal(kernel, count, dtype):
    output = kernel(points(count, dtype))
    assert all(part.isfinite().all() for part in output)


def test_identical_particles_are_legal(kernel):
    output = kernel(points(1).expand(4, -1))
    assert all(part.isfinite().all() for part in output)
    torch.testing.assert_close(output.repulsion, torch.zeros_like(output.repulsion))


def test_the_order_of_particles_does_not_matter(kernel):
    x, order = points(7), torch.randperm(7, generator=torch.Generator().manual_seed(0))
    plain, permuted = kernel(x), kernel(x[order])
    torch.testing.assert_close(permuted.matrix, plain.matrix[order][:, order])
    torch.testing.assert_close(permuted.repulsion, plain.repulsion[order])


def smallest(method):
    """Overrides that give a method little to do, and the shape of its latents."""
    settings = composed(f"method={method}").method.distiller
    if "learner" in settings.get("residual", {}):  # a network, where one is to learn
        return ("prior=embedded_text", "data.frames=2"), (2, 4, 16, 16)
    distiller = instantiate(settings)
    if not isinstance(distiller, Sampler):
        return ("prior=colours", "guidance=classifier_free", "data.size=16"), (8, 3, 16, 16)
    if "windows" in distiller.needs:
        return ("data=world_panorama", "data.width=96"), (1, 4, 16, 24)
    if "views" in distiller.needs:
        light = ("field.resolution=8", "modality.recipe.steps=2", "modality.updates.times=1")
        return ("data=world_scene", "data.count=2", "data.held_out=1", *light), (2, 4, 16, 16)
    return ("data.frames=2",), (2, 4, 16, 16)


@pytest.mark.parametrize("method", choices("method"))
def test_a_method_runs_and_its_result_is_finite(csd_lab, tmp_path, method):
    overrides, shape = smallest(method)
    outcome = csd_lab(
        f"method={method}",
        *overrides,
        "metrics=pixels",
        "trainer.max_steps=2",
        "hydra.run.dir=run",
    )
    assert outcome.code == 0, outcome.err
    state = torch.load(tmp_path / "run" / "checkpoints" / "last.ckpt", weights_only=True)
    latents = state["state_dict"]["latents"]
    assert latents.shape == shape
    assert latents.isfinite().all()


def test_one_particle_takes_the_same_steps_with_and_without_a_kernel(csd_lab, tmp_path):
    """One learning rate serves any number of particles."""
    steps = ("method.timesteps.high=501", "method.timesteps.final=501")
    run = ("prior=colours", "guidance=classifier_free", "data.size=16", "data.frames=1")
    latents = []
    for method in (("method=csd_edit",), ("method=dds", *steps)):
        folder = tmp_path / method[0]
        more = ("metrics=pixels", "trainer.max_steps=3", f"hydra.run.dir={folder}")
        assert csd_lab(*method, *run, *more).code == 0
        state = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
        latents.append(state["state_dict"]["latents"])
    torch.testing.assert_close(*latents)


def test_particles_held_to_their_sources_can_share_scores(csd_lab, tmp_path):
    run = ("prior=colours", "guidance=classifier_free", "data.size=16", "metrics=pixels")
    steps = ("trainer.max_steps=3", "hydra.run.dir=run")
    outcome = csd_lab("method=csd_pds", *run, *steps)
    assert outcome.code == 0, outcome.err
    rows = list(csv.DictReader((tmp_path / "run" / "metrics.csv").open()))
    assert all(float(row["repulsion_norm"]) > 0 for row in rows)


@pytest.mark.parametrize("kind", ["clip", "image"])
def test_a_few_steps_make_the_similarity_of_clip_rise(csd_lab, tmp_path, kind):
    if kind == "image":
        task = world.edit_task(seed=10**9 + 7, instruction="make it night", frames=1)
        write_image(tmp_path / "scene.png", task.source[0])
        caption = "'a blue box on snow under a grey sky, at night'"
        data = ("data.path=scene.png", f"prompt={caption}", f"data.target_caption={caption}")
        data = (*data, "metrics=default")
    else:
        data = ("data.frames=2", "data.clip_seed=1000000007", "prompt='make it night'")
    edits = []
    for steps in (1, 25):
        arguments = ("method=sds", "prior=clip_score", f"trainer.max_steps={steps}")
        outcome = csd_lab(*arguments, *data, f"hydra.run.dir=run{steps}")
        assert outcome.code == 0, outcome.err
        results = json.loads((tmp_path / f"run{steps}" / "metrics.json").read_text())
        edits.append(results["metrics"]["clip_text_tiny"])
    assert edits[1] > edits[0] + 0.05


@pytest.mark.parametrize("experiment", [name for group, name in DELTAS if group == "experiment"])
def test_an_experiment_runs_two_steps(csd_lab, tmp_path, experiment):
    arguments = [f"experiment={experiment}", "trainer.max_steps=2", "hydra.run.dir=run"]
    arguments.append("callbacks.scene.frames=2")
    config = composed(f"experiment={experiment}")
    if OmegaConf.is_missing(config.prior, "path"):
        arguments.append("prior.path=embedded")
    if config.data._target_ == "csd_lab.data.TextScene":  # is rendered several times
        arguments.append("data.size=32")
    outcome = csd_lab(*arguments)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "run" / "report.html").is_file()
