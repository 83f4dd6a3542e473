"""report.html of a run, from what lies in its folder."""
