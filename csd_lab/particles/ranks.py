"""What ranks tell one another in a step: the residuals of their particles, and their gradients."""

import torch
import torch.distributed as dist
from torch import Tensor


def of_all(part: Tensor, shares: tuple[Tensor, ...]) -> Tensor:
    """A value of all particles, (N, ...), from those of the rank's own, (n, ...).

    Args:
        part: of the rank's particles.
        shares: the ids of each rank's particles, of which no share is larger than the first.
    """
    if len(shares) == 1:
        return part
    padded = part.new_zeros(len(shares[0]), *part.shape[1:])
    padded[: len(part)] = part
    gathered = [torch.empty_like(padded) for _ in shares]
    dist.all_gather(gathered, padded)
    return torch.cat([rows[: len(ids)] for rows, ids in zip(gathered, shares, strict=True)])


def sum_over_ranks(state: None, bucket: dist.GradBucket) -> torch.futures.Future[Tensor]:
    """What DistributedDataParallel does with gradients, without the mean."""
    del state
    future = dist.all_reduce(bucket.buffer(), async_op=True).get_future()
    return future.then(lambda done: done.value()[0])
