"""The names of the files in a run's folder, in one place. Imports nothing of the package."""

from collections.abc import Sequence
from pathlib import Path
from typing import final


@final
class RunFolder:
    """A run's folder.

    Args:
        root: its path; need not exist yet.
    """

    def __init__(self, root: Path | str) -> None:
        self.root = Path(root)
        self.config = self.root / "config.yaml"
        self.log = self.root / "run.log"
        self.steps = self.root / "metrics.csv"
        self.results = self.root / "metrics.json"
        self.edited = self.root / "edited.mp4"
        self.side_by_side = self.root / "side_by_side.mp4"
        self.source_image = self.root / "source.png"
        self.edited_image = self.root / "edited.png"
        self.answer_image = self.root / "right_answer.png"
        self.side_by_side_image = self.root / "side_by_side.png"
        self.contact_sheet = self.root / "contact_sheet.png"
        self.path = self.root / "path.mp4"
        self.depth = self.root / "depth.mp4"
        self.points = self.root / "points.ply"
        self.mesh = self.root / "mesh.ply"
        self.mesh_glb = self.root / "mesh.glb"
        self.report = self.root / "report.html"
        self.checkpoint = self.root / "checkpoints" / "last.ckpt"
        self.plots = self.root / "plots"
        self.previews = self.root / "previews"
        self.status = self.root / "status.json"
        self.progress = self.root / "progress.json"
        self.lock = self.root / "job.lock"
        self.output = self.root / "output.log"
        self.wandb_id = self.root / "wandb" / "id.txt"

    @property
    def of_scene(self) -> tuple[Path, ...]:
        """What a run on a scene writes beside what others do."""
        return (self.path, self.depth, self.points, self.mesh, self.mesh_glb)

    @property
    def places(self) -> tuple[Path, ...]:
        """The folders in which a run writes, itself the first."""
        return (self.root, self.checkpoint.parent, self.plots, self.previews)

    @property
    def written(self) -> tuple[Path, ...]:
        """What there is of what a run writes, but for its config, status and log."""
        media = (self.edited, self.side_by_side, self.contact_sheet, self.side_by_side_image)
        images = (self.source_image, self.edited_image, self.answer_image)
        drawn = (*self.plots.glob("*.png"), *self.previews.glob("step_*.png"))
        kept = (self.checkpoint, self.steps, self.results, self.report, self.wandb_id)
        every = (*kept, *media, *images, *self.of_scene, *drawn)
        return tuple(path for path in every if path.is_file())

    def clear(self) -> None:
        """Delete what a run writes here, for one that begins anew; other files stay."""
        for path in self.written:
            path.unlink()

    def check_free(self, *sources: object) -> None:
        """Check that a run that begins here anew replaces nothing but a former run's files.

        Args:
            *sources: files that it reads, or folders with such files, if they are paths or
                sequences of them.

        Raises:
            ValueError: if it would.
        """
        read = {Path(path).resolve() for source in sources for path in _paths(source)}
        config = [self.config] if self.config.is_file() else []
        former = any("csd_lab." in path.read_text(encoding="utf-8") for path in config)
        for path in (*self.written, *config):
            if not former or {path.resolve(), path.resolve().parent} & read:
                raise ValueError(
                    f"hydra.run.dir must not hold {path.name!r}, which the run would replace: "
                    f"{str(self.root)!r}; choose another folder, or take the file elsewhere."
                )

    def __repr__(self) -> str:
        return f"RunFolder({str(self.root)!r})"


def _paths(source: object) -> list[str]:
    """What may be a path, or several, as a list."""
    if isinstance(source, str):
        return [source]
    several = source if isinstance(source, Sequence) else ()
    return [path for path in several if isinstance(path, str)]
