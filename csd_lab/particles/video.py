"""A video: the frames' latents are the parameters, and the frames are the particles."""

from typing import final

import torch
from torch import Tensor

from csd_lab.distill import particle_noise
from csd_lab.particles.latents import LatentParticles
from csd_lab.particles.module import PREVIEWED, Glance, names_of, some_of


@final
class VideoParticles(LatentParticles):
    """Edits the frames of a clip as one set of particles (Kim et al. 2023, section 4.2)."""

    takes = "clip"

    @torch.no_grad()
    def under_way(self) -> Glance | None:
        """Some of the frames, of the prior's size, where there are more than a preview shows."""
        if len(self.frames) <= PREVIEWED:
            return None
        ids = some_of(len(self.frames), PREVIEWED)
        edited = self.prior.decode(self._clean()[ids])
        return Glance({"source": self.frames[ids], self.called[1]: edited}, names_of("frame", ids))

    def parts(self, images: Tensor, ids: Tensor) -> Tensor:
        """Latents of the frames ``ids``, (N, C, h, w)."""
        return images[ids]

    def texts(self, ids: Tensor) -> str:
        """The same prompt for all frames."""
        del ids
        return self.prompt

    def whole(self, parts: Tensor, ids: Tensor) -> Tensor:
        """Latents of all frames, (F, C, h, w), from their parts in any order."""
        return torch.empty_like(parts).index_copy(0, ids.to(parts.device), parts)

    def starting_noise(self) -> Tensor:
        """Noise of all frames, (F, C, h, w)."""
        ids = torch.arange(len(self.frames))
        return particle_noise(self.seed, 0, ids, tuple(self.latents.shape[1:]), self.noise)
