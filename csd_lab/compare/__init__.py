"""Many runs beside each other: read from their folders, compared by scene, shown on one page.

No Hydra, no Lightning and no torch here: reading results takes no time.
"""

from csd_lab.compare.comparison import Comparison, Group
from csd_lab.compare.results import RunRecord, load_runs, records_table
from csd_lab.compare.statistics import Estimate, pareto_front

__all__ = [
    "Comparison",
    "Estimate",
    "Group",
    "RunRecord",
    "load_runs",
    "pareto_front",
    "records_table",
]
