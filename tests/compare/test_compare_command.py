"""`csd-lab-compare`, as it is typed."""

import csv
import subprocess
import sys
import tomllib
from importlib import import_module
from itertools import product
from pathlib import Path

import pytest

from csd_lab.commands.compare import main

FILES = {"comparison.html", "comparison.csv", "comparison.md", "comparison.tex"}


def command(*arguments: object) -> subprocess.CompletedProcess:
    call = [sys.executable, "-m", "csd_lab.commands.compare", *map(str, arguments)]
    return subprocess.run(call, capture_output=True, text=True, timeout=300)


def test_it_writes_the_page_and_the_tables(sweep, tmp_path, capsys):
    main([str(sweep), "--out", str(tmp_path / "out"), "--by", "method", "--reference", "dds"])
    assert {path.name for path in (tmp_path / "out").iterdir()} == FILES
    said = capsys.readouterr().out
    assert "csd_edit" in said
    assert "not finished: broken: interrupted, it has no metrics.json" in said
    assert said.rstrip().endswith("comparison.html")
    with (tmp_path / "out" / "comparison.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["reference"] for row in rows} == {"dds"}
    assert {row["method"] for row in rows} == {"csd", "csd_edit", "dds"}
    page = (tmp_path / "out" / "comparison.html").read_text(encoding="utf-8")
    assert "Comparison of synthetic" in page


@pytest.mark.parametrize("width", [80, 160])
def test_the_terminals_table_has_the_columns_that_fit_and_cuts_no_figure(
    maker, tmp_path, monkeypatch, capsys, width
):
    names = ("psnr_answer", "agreement", "lpips_consecutive_tiny")
    for number, (method, clip) in enumerate(product(("dds", "csd_edit"), range(2))):
        figures = dict.fromkeys(names, 0.001675 + clip / 90000)
        maker.make(tmp_path / "runs" / str(number), figures, method=method, clip=clip)
    monkeypatch.setenv("COLUMNS", str(width))
    main([str(tmp_path / "runs"), "--by", "method,kernel,prompt", "--out", str(tmp_path)])
    lines = capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ").splitlines()
    rows = [line for line in lines if "0.00168" in line]
    assert len(rows) == 2
    assert len({row.count("0.001681 ± 0.000071") for row in rows}) == 1
    assert rows[0].count("0.001681 ± 0.000071") == {80: 1, 160: 3}[width]
    assert all(row.count("0.001681") == row.count("± 0.000071") for row in rows)
    assert all(len(line) <= width for line in lines if "Page:" not in line)


def test_the_sweeps_own_folder_is_the_default(maker, tmp_path, capsys):
    for seed in range(2):
        maker.make(tmp_path / "sweep" / str(seed), seed=seed)
    main([str(tmp_path / "sweep"), "--metrics", "psnr_answer", "--link"])
    assert {path.name for path in (tmp_path / "sweep").iterdir()} == FILES | {"0", "1"}
    before = (tmp_path / "sweep" / "comparison.csv").read_text()
    main([str(tmp_path / "sweep"), "--metrics", "psnr_answer", "--link"])
    assert (tmp_path / "sweep" / "comparison.csv").read_text() == before


def test_several_folders_are_written_to_what_holds_them(maker, tmp_path, monkeypatch):
    for name in ("a", "b"):
        maker.make(tmp_path / name / "run", seed=len(name))
    monkeypatch.chdir(tmp_path)
    main(["a", "b"])
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"a", "b"}


def test_what_it_wrote_among_sweeps_is_none_of_them(maker, tmp_path, monkeypatch):
    """``csd-lab-compare outputs/sweeps/*`` can be given again."""
    for name in ("a", "b"):
        maker.make(tmp_path / name / "run", seed=len(name))
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        main(sorted(path.name for path in tmp_path.iterdir()))
    assert {path.name for path in tmp_path.iterdir()} == FILES | {"a", "b"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "folders must be those of runs or of sweeps, got 'nowhere'."),
        (["{sweep}", "--by", "methd"], "did you mean 'method'"),
        (["{sweep}", "--metrics", "psnr"], "did you mean 'psnr_answer'"),
        (["{sweep}", "--reference", "sds"], "reference must be one of the groups"),
        (["{sweep}", "--unit", "clip"], "unit: no run has a setting 'clip'"),
        (["{sweep}", "--out", "{file}"], "File exists: "),
        (["{sweep}", "--link", "--embed"], "not allowed with argument"),
        ([], "folders; see csd-lab-compare --help"),
        (["comparison.csv"], "folders must be those of runs or of sweeps, got 'comparison.csv'"),
    ],
)
def test_wrong_input_is_told_in_one_line(sweep, tmp_path, capsys, arguments, message):
    file = tmp_path / "file"
    file.write_text("")
    given = [a.format(sweep=sweep, file=file) for a in arguments]
    with pytest.raises(SystemExit) as stop:
        main(given)
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.startswith("csd-lab-compare: ")
    assert error.count("\n") == 1


def test_help_helps():
    told = command("--help")
    assert told.returncode == 0
    for word in ("--by", "--reference", "--metrics", "--unit", "--link", "examples:", "scene"):
        assert word in told.stdout


def test_nothing_heavy_is_imported(sweep, tmp_path):
    script = (
        "import sys; from csd_lab.commands.compare import main;"
        f"main([{str(sweep)!r}, '--out', {str(tmp_path)!r}]);"
        "print([m for m in ('torch', 'hydra', 'pytorch_lightning') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == "[]", done.stderr


def test_the_console_script_is_this_command():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    module, name = project["project"]["scripts"]["csd-lab-compare"].split(":")
    assert getattr(import_module(module), name) is main
