"""Views of runs in wandb: a workspace to explore them, a report to show them.

Both are wandb-workspaces' own classes, from which wandb's server or a file gets the specification.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import wandb_workspaces.reports.v2 as wr
import wandb_workspaces.workspaces as ws
from wandb_workspaces.reports.v2.internal import ReportViewspec
from wandb_workspaces.workspaces.internal import View

from csd_lab.compare.comparison import CONSISTENCY, FIDELITY
from csd_lab.notes import MetricNote
from csd_lab.tracking.identity import DEPTH, MESH, PATH, PLOTS, SHEET, STEP, VIDEO, shortened
from csd_lab.tracking.logged import Logged

RUNS_SHOWN = 500
COLUMNS, WIDTH, HEIGHT = 3, 8, 6
"""Panels in a row of a report's grid, whose width is 24, and their size there."""

METHOD = "JobType"
"""Runs are grouped by it: csd_lab gives the method as the job type."""


def workspace(logged: Logged) -> ws.Workspace:
    """The workspace: methods against baselines, trade-offs, curves, videos."""
    sections = [
        ws.Section(
            name=name,
            panels=panels,
            is_open=True,
            layout_settings=ws.SectionLayoutSettings(columns=COLUMNS, rows=2),
        )
        for name, panels in _sections(logged)
    ]
    return ws.Workspace(
        entity=logged.entity,
        project=logged.project,
        name=_title(logged),
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis=STEP, max_runs=RUNS_SHOWN),
        runset_settings=ws.RunsetSettings(
            filters=_filters(logged), pinned_columns=_columns(logged)
        ),
    )


def report(logged: Logged) -> wr.Report:
    """The report: the same in one page with words, the runs as a table grouped by method."""
    blocks: list[Any] = [
        wr.P(
            "Bars and curves are means over the runs of each method, with the range from the "
            "smallest run to the largest. Bars are of the final results, curves go over steps. "
            "Runs of one clip are not independent: for intervals over clips, csd-lab-compare. "
            "The table below a heading's panels lists the runs."
        ),
    ]
    if logged.metrics:
        meanings: list[Any] = [_explained(name, note) for name, note in logged.metrics.items()]
        blocks += [wr.H2("What is measured"), wr.UnorderedList(meanings)]
    for name, panels in _sections(logged):
        for place, panel in enumerate(panels):
            row, column = divmod(place, COLUMNS)
            panel.layout = wr.Layout(x=column * WIDTH, y=row * HEIGHT, w=WIDTH, h=HEIGHT)
        blocks += [wr.H2(name), wr.PanelGrid(runsets=[_runset(logged)], panels=panels)]
    return wr.Report(
        project=logged.project,
        entity=logged.entity,
        title=_title(logged),
        description="Made by csd-lab-dashboard.",
        blocks=blocks,
        width="fluid",
    )


def specification(workspace: ws.Workspace, report: wr.Report) -> dict[str, Any]:
    """Both views in the JSON types of wandb's own models, as its server would get them."""
    models = {"workspace": workspace._to_model(), "report": report._to_model()}
    return {
        name: model.model_dump(by_alias=True, exclude_none=True, mode="json")
        for name, model in models.items()
    }


def views_from(specification: Mapping[str, Any]) -> tuple[ws.Workspace, wr.Report]:
    """The views of a specification.

    Raises:
        pydantic.ValidationError: if wandb's models do not take it.
    """
    view = View.model_validate(specification["workspace"])
    page = ReportViewspec.model_validate(specification["report"])
    report = wr.Report._from_model(page)
    report.width = page.spec.width  # which the library forgets on this way
    return ws.Workspace._from_model(view), report


def _sections(logged: Logged) -> Iterator[tuple[str, list[Any]]]:
    """Headings and new panels below them; headings without a panel are left out."""
    sections = {
        "Methods against baselines": [*_bars(logged), wr.RunComparer(diff_only="split")],
        "Fidelity against consistency": _scatter(logged),
        "Over steps": [_curve(name) for name in logged.curves],
        "Videos side by side": _gallery([n for n in (VIDEO, SHEET) if n in logged.media]),
        "Around the scene": _gallery([n for n in (PATH, DEPTH, MESH) if n in logged.media]),
        "What the kernel did": _gallery([n for n in logged.media if n == f"{PLOTS}/kernel"]),
    }
    return ((name, panels) for name, panels in sections.items() if panels)


def _bars(logged: Logged) -> list[Any]:
    return [
        wr.BarPlot(
            title=_titled(name, note),
            metrics=[name],
            groupby=METHOD,
            groupby_aggfunc="mean",
            groupby_rangefunc="minmax",
            max_runs_to_show=RUNS_SHOWN,
        )
        for name, note in logged.metrics.items()
    ]


def _scatter(logged: Logged) -> list[Any]:
    """Fidelity over consistency, with the running best: what no other run beats in both."""
    fidelities = _first(logged.metrics, FIDELITY)
    consistencies = _first(logged.metrics, CONSISTENCY)
    return [
        wr.ScatterPlot(
            title=f"{y} over {x}",
            x=wr.SummaryMetric(x),
            y=wr.SummaryMetric(y),
            running_ymax=logged.metrics[x].higher_is_better is False,
        )
        for x in consistencies
        for y in fidelities
    ]


def _first(metrics: Mapping[str, MetricNote], basenames: Sequence[str]) -> list[str]:
    """The first kind of metric that there is, with all networks that measured it."""
    for basename in basenames:
        if found := [n for n in metrics if n == basename or n.startswith(f"{basename}_")]:
            return found
    return []


def _curve(name: str) -> Any:
    return wr.LinePlot(
        title=name,
        x=STEP,
        y=[name],
        groupby=METHOD,
        groupby_aggfunc="mean",
        groupby_rangefunc="minmax",
        max_runs_to_show=RUNS_SHOWN,
    )


def _gallery(keys: Sequence[str]) -> list[Any]:
    return [wr.MediaBrowser(title=key, media_keys=[key], num_columns=COLUMNS) for key in keys]


def _runset(logged: Logged) -> wr.Runset:
    return wr.Runset(
        name="runs",
        filters=_filters(logged),
        groupby=[f"run.{METHOD}"],
        visible_columns=_columns(logged),
    )


def _filters(logged: Logged) -> str:
    """Only runs of these sweeps, in the filters' own language, which quotes as Python does."""
    return f"Metric('Group') in {list(logged.groups)!r}" if logged.groups else ""


def _columns(logged: Logged) -> list[str]:
    """Columns of the table of runs: state, settings that differ, final metrics."""
    settings = [_config_column(key) for key in logged.settings]
    return ["run:displayName", "run:state", *settings, *(f"summary:{n}" for n in logged.metrics)]


def _config_column(key: str) -> str:
    """Where wandb keeps a setting: it puts the value of each top-level key below ``value``."""
    first, dot, rest = key.partition(".")
    return f"config:{first}.value{dot}{rest}"


def _title(logged: Logged) -> str:
    return shortened(f"{', '.join(logged.groups) or logged.project}: methods compared", 100)


def _titled(name: str, note: MetricNote) -> str:
    better = f"{note.better} is better" if note.better else ""
    about = ", ".join(part for part in (note.unit, better) if part)
    return f"{name} ({about})" if about else name


def _explained(name: str, note: MetricNote) -> str:
    return f"{_titled(name, note)}: {note.meaning}" if note.meaning else _titled(name, note)
