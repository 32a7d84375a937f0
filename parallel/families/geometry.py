"""What frames are as latents: people count frames, the engine counts latents, and a family's geometry maps one to the other."""

from pydantic import Field

from ..job.job import Frozen


class Geometry(Frozen):
    """How a VAE packs a video: the first latent holds one frame, each later one `frames_per_latent`.

    With 1, as of a VAE for pictures, latents and frames have the same numbers. A length that does not fill its last latent is
    made as long as it fills it, and cut when it is given out.
    """

    scale: int = Field(ge=1, description="pixels of a frame for one latent pixel, along either side")
    frames_per_latent: int = Field(1, ge=1)

    def latents(self, frames: int) -> int:
        """Return how many latents a video of so many frames has, at least 1."""
        return 1 + -(-(frames - 1) // self.frames_per_latent)

    def latent_of(self, frame: int) -> int:
        """Return the latent that holds a frame."""
        return self.latents(frame + 1) - 1

    def middle_frame(self, latent: int) -> int:
        """Return the frame in the middle of those that a latent holds: what is said of frames holds for the latent as for it."""
        frames = self.frames_of(range(latent, latent + 1))
        return frames[len(frames) // 2]

    def frames_of(self, latents: range) -> range:
        """Return the frames that consecutive latents hold; of the last one of a video also those past its end."""
        return range(self._first_frame(latents.start), self._first_frame(latents.stop))

    def _first_frame(self, latent: int) -> int:
        return 0 if latent == 0 else 1 + (latent - 1) * self.frames_per_latent

    def latents_shape(self, channels: int, *, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape (C, T, h, w) of a video's latents."""
        return channels, self.latents(frames), height // self.scale, width // self.scale
