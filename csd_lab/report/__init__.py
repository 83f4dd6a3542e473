"""What a run looks like: plots, sheets of frames, and a page that shows everything."""

from csd_lab.report.depth import DepthClip, colour_depths
from csd_lab.report.page import RunPage, write_run_page
from csd_lab.report.plots import plot_kernels, plot_scalars
from csd_lab.report.sheets import contact_sheet, side_by_side

__all__ = [
    "DepthClip",
    "RunPage",
    "colour_depths",
    "contact_sheet",
    "plot_kernels",
    "plot_scalars",
    "side_by_side",
    "write_run_page",
]
