"""What scripts/tune_methods.py tries, and the table that is made of it."""

import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

from comparison.cells import Cell, fill
from comparison.tuning import SCALES, label, plan_of, section, subject_of, tuned, variants_of


def test_the_best_scale_is_marked_and_that_of_the_tables(tmp_path):
    """Of what has all cells."""
    tried = {name: tuned()[name] for name in ("csd_edit_best", "pds", "fatezero no attention")}
    plan = plan_of(subject_of(tried))

    def figures(cell: Cell) -> dict[str, float]:
        scale = float(cell.method.split()[-1])
        return {"psnr_target": 30 - scale, "psnr_answer": 20 - scale}

    settings = dict.fromkeys(plan.methods, "0123456789ab")
    fill(tmp_path / "cells.jsonl", plan, settings, lambda: figures)
    text = section(tmp_path / "cells.jsonl")
    found = re.findall(r"^\| ([^-].*?) \|" + r" (\S+) \|" * 4, text, re.MULTILINE)
    rows = {name: figures for name, *figures in found}
    assert rows == {
        label("csd_edit_best"): ["**23.0**", "(22.0)", "20.0", "17.5"],
        label("pds"): ["**23.0**", "22.0", "(20.0)", "17.5"],
        label("fatezero no attention"): ["**23.0**", "22.0", "20.0", "17.5"],
    }
    lines = (tmp_path / "cells.jsonl").read_text().splitlines()
    (tmp_path / "cells.jsonl").write_text("\n".join(lines[:-1]))
    text = section(tmp_path / "cells.jsonl")
    assert f"| {label('fatezero no attention')} |" not in text
    assert "Not all cells are kept of: " in text


def test_all_methods_have_the_same_budget():
    methods = subject_of(tuned()).methods
    for name in tuned():
        for variant, scale in variants_of(name).items():
            assert methods[variant][-1] == f"guidance.text={scale}"
    assert len(methods) == len(SCALES) * len(tuned())
