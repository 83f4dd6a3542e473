"""Facts that hold for every prior, shown with an exact one and with a tiny network."""

import pytest
import torch
from torch import Tensor

from csd_lab.distill import VariancePreserving
from csd_lab.distill.guidance import DualGuidance, Query, Request, guided_noise
from csd_lab.priors import Prior
from csd_lab.priors.base import Batch
from csd_lab.priors.instruct_pix2pix import InstructPix2Pix


class Counting(Prior):
    """Estimates that tell apart particle, text, image and t, and a record of what was asked."""

    def __init__(self, max_batch: int = 8) -> None:
        super().__init__(
            schedule=VariancePreserving.scaled_linear(),
            scheduler_config={},
            latent_channels=1,
            latent_scale=1,
            size_multiple=1,
            max_batch=max_batch,
        )
        self.embedded: list[str] = []
        self.sizes: list[int] = []
        self.freeze()

    def encode(self, images: Tensor, noise: Tensor | None = None) -> Tensor:
        return images

    def decode(self, latents: Tensor) -> Tensor:
        return latents

    def condition(self, images: Tensor) -> Tensor:
        return images

    def _embed(self, text: str) -> Tensor:
        self.embedded.append(text)
        return torch.tensor([float(len(text))])

    def _noise(self, batch: Batch, t: Tensor) -> Tensor:
        self.sizes.append(len(batch.x_t))
        image = 0 if batch.image is None else batch.image
        return batch.x_t + 10 * batch.text[:, :, None, None] + 100 * image + 1000 * t


T = torch.tensor(3)


def particles(n: int, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.arange(float(n), dtype=dtype).reshape(n, 1, 1, 1)


def test_each_query_gets_its_own_estimates_whatever_else_is_asked():
    prior = Counting(max_batch=4)
    queries = [
        Query(particles(3), "", None),
        Query(particles(2), ("a", "abc"), torch.ones(2, 1, 1, 1)),
        Query(particles(5), "ab", None),
    ]
    together = prior.predict_noise(queries, T)
    alone = [prior.predict_noise([query], T)[0] for query in queries]
    for x, y in zip(together, alone, strict=True):
        torch.testing.assert_close(x, y, rtol=0, atol=0)
    assert together[1].flatten().tolist() == [0 + 10 + 100 + 3000, 1 + 30 + 100 + 3000]


def test_no_query_gives_no_estimate_and_evaluates_nothing():
    prior = Counting()
    assert prior.predict_noise([], T) == []
    assert prior.sizes == []


@pytest.mark.parametrize(("n", "expected"), [(8, [8]), (9, [4, 5]), (20, [6, 7, 7]), (1, [1])])
def test_the_batch_goes_through_in_the_fewest_and_most_even_chunks(n, expected):
    prior = Counting(max_batch=8)
    prior.predict_noise([Query(particles(n), "", None)], T)
    assert prior.sizes == expected
    assert prior.samples_evaluated == n


def test_five_samples_a_particle_for_an_edit_with_dual_guidance():
    prior, n = Counting(max_batch=100), 4
    guidance = DualGuidance(7.5, 1.5)
    image = torch.ones(n, 1, 1, 1)
    requests = [
        Request(particles(n), guidance.coefficients("make it night"), image),
        Request(particles(n), guidance.coefficients(""), image),
    ]
    guided_noise(prior, T, requests)
    assert prior.sizes == [5 * n]
    assert prior.samples_evaluated == 5 * n


def test_each_text_is_embedded_once_until_the_embeddings_are_cleared():
    prior = Counting()
    queries = [Query(particles(2), ("a", ""), None), Query(particles(2), "a", None)]
    prior.predict_noise(queries, T)
    prior.predict_noise(queries, T)
    assert prior.embedded == ["a", ""]
    prior.clear_embeddings()
    assert prior.embed(("a", "b", "a")).tolist() == [[1.0], [1.0], [1.0]]
    assert prior.embedded == ["a", "", "a", "b"]


@pytest.mark.parametrize(
    ("given", "returned"),
    [
        (torch.float16, torch.float32),
        (torch.bfloat16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
def test_estimates_are_of_the_particles_type_but_at_least_float32(given, returned):
    estimate = Counting().predict_noise([Query(particles(2, given), "", None)], T)[0]
    assert estimate.dtype == returned


def test_estimates_can_be_used_in_a_later_graph():
    prior = Counting()
    x = particles(2).requires_grad_()
    (estimate,) = prior.predict_noise([Query(x, "", None)], T)
    assert not estimate.requires_grad
    (x * estimate).sum().backward()
    torch.testing.assert_close(x.grad, estimate)


def test_a_prior_stays_in_evaluation_mode_and_asks_for_no_gradient(tiny_ip2p_folder):
    prior = InstructPix2Pix(tiny_ip2p_folder)
    holder = torch.nn.Sequential(prior).train()
    assert not any(module.training for module in holder[0].modules())
    assert not any(parameter.requires_grad for parameter in prior.parameters())


def test_max_batch_must_be_positive():
    with pytest.raises(ValueError, match=r"max_batch must be a whole number of at least 1, got 0"):
        Counting(max_batch=0)


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (Query(particles(2), ("a",), None), "one text a particle, that is 2, got 1"),
        (Query(torch.zeros(2, 1, 2, 2), "", None), "must have one shape"),
        (Query(particles(2), "", torch.zeros(1, 1, 1, 1)), "one condition a particle"),
    ],
)
def test_queries_that_do_not_fit_are_refused(query, message):
    with pytest.raises(ValueError, match=message):
        Counting().predict_noise([Query(particles(2), "", None), query], T)
