"""The dashboard of a sweep: valid, of what the runs log, and of nothing else."""

import http.server
import json
import os
import shlex
import threading
from typing import ClassVar

import pytest
import wandb
from wandb_records import GOOD

from csd_lab.commands import dashboard
from csd_lab.tracking.logged import CURVES, Logged, logged_by
from csd_lab.tracking.views import report, specification, views_from, workspace

pytest.importorskip("wandb_workspaces")


@pytest.fixture(autouse=True)
def nobody(monkeypatch):
    """Nobody is logged in."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("NETRC", os.devnull)


def panels(specification):
    """(heading, kind, config) of the workspace's panels."""
    sections = specification["workspace"]["spec"]["section"]["panelBankConfig"]["sections"]
    return [(s["name"], p["viewType"], p["config"]) for s in sections for p in s["panels"]]


def named(specification):
    """Names of all that the workspace's panels show."""
    names = set()
    for _, _, config in panels(specification):
        names |= {*config.get("metrics", ()), *config.get("mediaKeys", ())}
        names |= {config[axis].partition(":")[2] for axis in ("xAxis", "yAxis")
                  if ":" in config.get(axis, "")}  # fmt: skip
    return names


@pytest.fixture
def written(sweep, jobs, capsys):
    """What the command wrote and said; the sweep has been run."""
    del jobs
    folder = sweep / "outputs/sweeps/three"
    assert dashboard.run([str(folder)]) == 0
    return json.loads((folder / "dashboard.json").read_text()), capsys.readouterr().out


def test_the_file_is_what_wandbs_own_classes_make_of_it(written):
    content, _ = written
    assert specification(*views_from(content)) == content


def test_panels_show_what_the_runs_log(written, jobs):
    content, _ = written
    (part,) = jobs["csd", GOOD].parts
    logged = set(part.summary) | {name.removesuffix(".path") for name in part.summary}
    assert named(content) <= logged
    final = json.loads(jobs["csd", GOOD].folder.results.read_text())["metrics"]
    assert named(content) >= {*final, "gradient_norm", "ksd", "side_by_side", "plots/kernel"}


def test_it_compares_methods_within_the_sweep(written):
    content, _ = written
    for view in json.dumps(content["workspace"]), json.dumps(content["report"]):
        assert '"value": ["three"]' in view
        assert "jobType" in view
    assert {name for name, _, _ in panels(content)} == {
        "Methods against baselines",
        "Fidelity against consistency",
        "Over steps",
        "Videos side by side",
        "What the kernel did",
    }
    columns = content["workspace"]["spec"]["section"]["runSets"][0]["runFeed"]["columnOrder"]
    assert {"config:choices.value.method", "summary:error_spread"} <= set(columns)
    assert any(column.endswith(".lr") for column in columns)


def test_it_says_what_to_do_once_logged_in(written, sweep):
    _, said = written
    folder = sweep / "outputs/sweeps/three"
    line = said.splitlines()[-1]
    assert line.startswith("Not saved in wandb, since nobody is logged in; later: wandb login && ")
    sync, again = line.split(" && ")[1:]
    assert sync == f"wandb sync {shlex.quote(str(folder))}/*/wandb"
    assert shlex.split(again) == ["csd-lab-dashboard", str(folder)]


def test_it_says_what_keeps_it_offline_and_what_is_uploaded_already(
    sweep, tmp_path, monkeypatch, capsys
):
    folder = sweep / "outputs/sweeps/three"
    monkeypatch.setenv("WANDB_MODE", "offline")
    file = ["--file", str(tmp_path / "views.json")]
    beside = tmp_path / "comparison.csv"  # as csd-lab-compare leaves it, and a glob finds it
    beside.touch()
    parts = sorted(folder.rglob("wandb/offline-run-*"))
    marks = [part / "run.wandb.synced" for part in parts[1:]]
    try:
        for mark in marks:
            mark.touch()
        assert dashboard.run([str(beside), str(folder), *file]) == 0
    finally:
        for mark in marks:
            mark.unlink()
    line = capsys.readouterr().out.splitlines()[-1]
    unset, sync, again = line.partition("; later: ")[2].split(" && ")
    assert unset == "unset WANDB_MODE"
    assert shlex.split(sync) == ["wandb", "sync", str(parts[0].parent)]
    assert shlex.split(again) == ["csd-lab-dashboard", str(beside), str(folder), *file]


def test_curves_that_are_taken_for_granted_are_logged(jobs):
    (part,) = jobs["csd", GOOD].parts
    assert set(CURVES) <= set(part.summary)


def test_a_project_can_be_shown_without_its_folders(tmp_path):
    file = tmp_path / "views.json"
    arguments = ["--project", "p", "--group", 'it\'s "quoted"', "--metrics", "pixels"]
    assert dashboard.run([*arguments, "--file", str(file)]) == 0
    content = json.loads(file.read_text())
    assert specification(*views_from(content)) == content
    runs = content["workspace"]["spec"]["section"]["runSets"][0]
    assert runs["filters"]["filters"][0]["value"] == ['it\'s "quoted"']
    assert {"psnr_answer", "colour_spread", *CURVES} <= named(content)


class Server(http.server.BaseHTTPRequestHandler):
    """As much of wandb's server as saving a view asks for; keeps what it is given."""

    saved: ClassVar[list[dict]] = []

    def do_HEAD(self):
        self.send_error(404)

    def do_POST(self):
        asked = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.answer(json.loads(asked)) if self.path == "/graphql" else {}
        text = json.dumps({"data": answer}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def answer(self, asked):
        if "upsertView" in asked["query"]:
            given = asked["variables"]
            self.saved.append(given)
            names = {key: given[key] for key in ("name", "displayName", "description", "spec")}
            project = {"name": given["projectName"], "entityName": given["entityName"]}
            return {"upsertView": {"view": {"id": "V", **names, "project": project}}}
        if "viewer" in asked["query"]:
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "email": "me@x.org",
                               "flags": "{}", "teams": {"edges": []}}}  # fmt: skip
        page = {"endCursor": "x", "hasNextPage": False}
        node = {"id": "p", "name": "p", "entityName": "me", "createdAt": "2020-01-01T00:00:00",
                "isBenchmark": False, "user": None}  # fmt: skip
        return {"models": {"edges": [{"node": node, "cursor": "x"}], "pageInfo": page}}

    def log_message(self, *args):
        """Nothing is to be said."""


def test_logged_in_both_views_are_saved(monkeypatch, capsys, tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
    monkeypatch.setenv("WANDB_BASE_URL", url)
    wandb.teardown()
    file = tmp_path / "views.json"
    arguments = ["--project", "p", "--metrics", "pixels", "--file", str(file)]
    try:
        assert dashboard.run(arguments) == 0
    finally:
        wandb.teardown()
        server.shutdown()
        server.server_close()
    said = capsys.readouterr().out
    assert f"workspace: {url}/me/p?nw=" in said
    assert f"report: {url}/me/p/reports/" in said
    workspace_saved, report_saved = Server.saved
    assert workspace_saved["entityName"] == report_saved["entityName"] == "me"
    content = json.loads(file.read_text())
    assert json.loads(workspace_saved["spec"])["section"]["panelBankConfig"]["sections"]
    blocks = json.loads(report_saved["spec"])["blocks"]
    assert len(blocks) == len(content["report"]["spec"]["blocks"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "give the folder of a sweep, or --project."),
        (["nowhere"], "folders must be those of runs or of sweeps, got 'nowhere'."),
        (["--project", "p", "--metrics", "none"], "There is no metrics=none"),
    ],
)
def test_wrong_input_is_one_line(capsys, arguments, said):
    assert dashboard.run(arguments) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"csd-lab-dashboard: {said}")


def test_runs_without_wandb_are_told(jobs, tmp_path):
    root = jobs["csd", GOOD].folder.root
    text = (root / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("wandb:", "other:"))
    with pytest.raises(ValueError, match="make them with logger=wandb"):
        logged_by([tmp_path])


def test_views_of_nothing_measured_are_valid_too():
    bare = Logged("p", curves=(), media=(), settings=())
    content = specification(workspace(bare), report(bare))
    assert specification(*views_from(content)) == content
