"""The page of a run: one HTML file with its videos and pictures embedded."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup

from csd_lab.files import atomic_path
from csd_lab.html import content_policy, data_uri, relative_link, render
from csd_lab.notes import MetricNote
from csd_lab.report.pictures import show
from csd_lab.report.text import without_terminal_codes
from csd_lab.sweep.status import State

HERE = Path(__file__).parent
ENDED = (State.DONE, State.INTERRUPTED, State.FAILED)
"""What a run with a page can be."""
LOG_LINES = 200
MAX_EMBEDDED = 64 * 2**20


class RunPage(NamedTuple):
    """What the page of a run shows; only the first five must be there.

    Attributes:
        title: short name of what was edited.
        prompt: what the user asked for.
        state: how the run ended: done, interrupted or failed.
        step: steps done.
        steps: steps wanted.
        message: why it ended, if not because it was finished.
        facts: short settings and figures for the head of the page, by name.
        videos: mp4 files by label, played in step; equally long, of one kind of content.
        paths: further mp4 files by label, in step with one another alone.
        files: what else there is to take home, by what it is: linked, if it is there.
        compared: image files of one size by label, put under a divider that is dragged; at first
            the first one on its left and the second one on its right.
        pictures: image files by label, such as the contact sheet.
        metrics: final values by name.
        notes: what these mean, by the same names.
        skipped: why other metrics were not measured, by name.
        plots: image files by label.
        config: the resolved config.
        command: what was typed.
        resume: what to type to go on.
        environment: versions by name.
        log: its end is shown.
    """

    title: str
    prompt: str
    state: State
    step: int
    steps: int
    message: str = ""
    facts: Mapping[str, str] = {}
    videos: Mapping[str, Path] = {}
    paths: Mapping[str, Path] = {}
    files: Mapping[str, Path] = {}
    compared: Mapping[str, Path] = {}
    pictures: Mapping[str, Path] = {}
    metrics: Mapping[str, float] = {}
    notes: Mapping[str, MetricNote] = {}
    skipped: Mapping[str, str] = {}
    plots: Mapping[str, Path] = {}
    config: str = ""
    command: str = ""
    resume: str = ""
    environment: Mapping[str, str] = {}
    log: str = ""


class Embedded(NamedTuple):
    """A file as the template shows it.

    Attributes:
        label: its caption.
        file: its name.
        data: its content as a data URI; "" if it is missing or too large.
        missing: whether there is no such file.
        megabytes: its size.
        link: its address from the page.
    """

    label: str
    file: str
    data: str
    missing: bool
    megabytes: int
    link: str


class Linked(NamedTuple):
    """A file that the page leads to.

    Attributes:
        label: what it is.
        file: its name.
        size: in words.
        link: its address from the page.
    """

    label: str
    file: str
    size: str
    link: str


def write_run_page(path: Path | str, page: RunPage) -> None:
    """Write the page of a run; it appears whole or not at all.

    Media that are not there are told as such, so that a run that failed early has a page as well.

    Args:
        path: of the HTML file.
        page: its content.

    Raises:
        ValueError: if the run has not ended.
        OSError: if the file cannot be written.
    """
    if page.state not in ENDED:
        raise ValueError(f"state must be one of {', '.join(ENDED)}, got {page.state}.")
    path = Path(path)
    compared = [show(label, Path(file), path.parent) for label, file in page.compared.items()]
    viewed = len(compared) >= 2 and not any(picture.missing for picture in compared)
    parts = ("page", "viewer") if viewed else ("page",)
    styles = [(HERE / f"{part}.css").read_text(encoding="utf-8") for part in parts]
    scripts = [(HERE / f"{part}.js").read_text(encoding="utf-8") for part in parts]
    html = render(
        HERE / "page.html.j2",
        page=page,
        headline=_headline(page),
        metrics=[_metric(name, value, page.notes) for name, value in page.metrics.items()],
        videos=_embedded(page.videos, path.parent),
        paths=_embedded(page.paths, path.parent),
        files=[
            _linked(label, Path(file), path.parent)
            for label, file in page.files.items()
            if Path(file).is_file()
        ],
        compared=compared,
        width=compared[0].width if viewed else 0,
        height=compared[0].height if viewed else 0,
        pictures_shown=_embedded(page.pictures, path.parent),
        plots=_embedded(page.plots, path.parent),
        log="\n".join(without_terminal_codes(page.log).splitlines()[-LOG_LINES:]),
        styles=[Markup(style) for style in styles],
        scripts=[Markup(script) for script in scripts],
        policy=content_policy(styles, scripts),
    )
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _headline(page: RunPage) -> str:
    if page.state is State.DONE:
        return f"Finished after {page.steps} steps"
    return f"{page.state.capitalize()} after {page.step} of {page.steps} steps"


def _metric(name: str, value: float, notes: Mapping[str, MetricNote]) -> dict[str, str]:
    note = notes.get(name, MetricNote())
    return {
        "name": name,
        "value": f"{value:.4g}" if math.isfinite(value) else "undefined",
        "unit": note.unit if math.isfinite(value) else "",
        "better": f"{note.arrow} {note.better}".strip(),
        "meaning": note.meaning,
    }


def _embedded(files: Mapping[str, Path], folder: Path) -> list[Embedded]:
    return [_embed(label, Path(path), folder) for label, path in files.items()]


def _embed(label: str, path: Path, folder: Path) -> Embedded:
    missing = not path.is_file()
    size = 0 if missing else path.stat().st_size
    data = data_uri(path) if not missing and size <= MAX_EMBEDDED else ""
    link = relative_link(path, folder)
    return Embedded(label, path.name, data, missing, round(size / 1e6), link)


def _linked(label: str, path: Path, folder: Path) -> Linked:
    megabytes = path.stat().st_size / 1e6
    return Linked(label, path.name, f"{megabytes:.2g} MB", relative_link(path, folder))
