"""What frames are as latents: people count frames, the engine counts latents, and a family's geometry maps one to the other."""

from pydantic import Field

from ..job.job import Frozen, Job
from ..maths.scope import Span


class Geometry(Frozen):
    """How a VAE packs a video: the first latent holds one frame, each later one `frames_per_latent`.

    With 1, as of a VAE for pictures, latents and frames have the same numbers. A length that does not fill its last latent is
    made as long as it fills it, and cut when it is given out.
    """

    scale: int = Field(ge=1, description="pixels of a frame for one latent pixel, along either side")
    frames_per_latent: int = Field(1, ge=1)
    trained_frames: int = Field(16, ge=1, description="of a clip that the model was trained on")
    local_context: int = Field(8, ge=0, description="latents on either side that one attends to, where a job says nothing")
    global_latents: int = Field(16, ge=0, description="latents that all attend to, where a job says nothing")

    @classmethod
    def trained_on(cls, frames: int, *, scale: int, frames_per_latent: int) -> "Geometry":
        """Return the geometry of a model that wants as many keys as it was trained on: two fifths of them global."""
        counts = cls(scale=scale, frames_per_latent=frames_per_latent, trained_frames=frames)
        trained = counts.latents(frames)
        spread = round(0.4 * trained)
        return counts.model_copy(update={"global_latents": spread, "local_context": max(1, (trained - spread - 1) // 2)})

    def span(self, job: Job) -> Span:
        """Return how far the latents of a job see: a scope of frames takes all the latents that it reaches into.

        Keyframes are always global; of a given run of frames its ends, so that a long one costs no more than a short one.
        """
        local, spread = self.local_context, self.global_latents
        if job.scope.local_context is not None:
            local = -(-job.scope.local_context // self.frames_per_latent)
        if job.scope.global_frames is not None:
            spread = -(-job.scope.global_frames // self.frames_per_latent)
        pinned = {self.latent_of(end) for each in job.keyframes for end in (each.frame, each.last)}
        return Span(
            self.latents(job.frames), local, spread, job.loop, pinned=tuple(sorted(pinned)), full=job.scope.full_windows
        )

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
