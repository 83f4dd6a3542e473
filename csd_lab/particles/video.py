"""A video: the frames' latents are the parameters, and the frames are the particles."""

from typing import final

from torch import Tensor

from csd_lab.particles.latents import LatentParticles


@final
class VideoParticles(LatentParticles):
    """Edits the frames of a clip as one set of particles (Kim et al. 2023, section 4.2)."""

    def parts(self, images: Tensor, ids: Tensor) -> Tensor:
        """Latents of the frames ``ids``, (N, C, h, w)."""
        return images[ids]

    def texts(self, ids: Tensor) -> str:
        """The same prompt for all frames."""
        del ids
        return self.prompt
