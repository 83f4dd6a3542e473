"""A run's opening and end: no question, no long wait, nothing left behind in the process."""

import http.server
import os
import signal
import socket
import threading
import time

import pytest
import wandb
import yaml
from running import wait_for
from wandb_records import parts

from csd_lab.callbacks import CsvLog, WandbLog, finish_abandoned_wandb
from csd_lab.run_folder import RunFolder
from csd_lab.tracking.server import NOBODY, answers, decide_mode


class Broken(http.server.BaseHTTPRequestHandler):
    """Answers, and refuses all that it is asked for."""

    def do_HEAD(self):
        self.send_error(500)

    def do_POST(self):
        self.send_error(403)

    def log_message(self, *args):
        """Nothing is to be said."""


@pytest.fixture
def broken():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent():
    """A server that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_any_answer_is_a_sign_of_life(broken):
    assert answers(broken)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9", "http://no-such-host.invalid", "nonsense"])
def test_no_server_is_no_answer(url):
    assert not answers(url, seconds=2)


def test_silence_is_not_waited_for(silent):
    begun = time.monotonic()
    assert not answers(silent, seconds=0.5)
    assert time.monotonic() - begun < 5


@pytest.fixture
def environment(monkeypatch):
    """Sets wandb's environment, and has wandb read it anew."""

    def set_to(**variables):
        for name in [name for name in os.environ if name.startswith("WANDB_")]:
            monkeypatch.delenv(name)
        for name, value in {"NETRC": os.devnull, **variables}.items():
            monkeypatch.setenv(name, value)
        wandb.teardown()

    yield set_to
    monkeypatch.undo()
    wandb.teardown()


def test_what_was_asked_for_is_done(environment):
    for mode in ("online", "offline", "disabled"):
        environment(WANDB_MODE=mode)
        assert decide_mode() == (mode, "")


def test_nobody_is_asked_to_log_in(environment):
    environment()
    assert decide_mode() == ("offline", NOBODY)


def test_online_needs_a_login_and_an_answer(environment, broken):
    environment(WANDB_API_KEY="0" * 40, WANDB_BASE_URL=broken)
    assert decide_mode() == ("online", "")
    environment(WANDB_API_KEY="0" * 40, WANDB_BASE_URL="http://127.0.0.1:9")
    assert decide_mode() == ("offline", "http://127.0.0.1:9 does not answer")


def test_a_key_that_cannot_be_one_is_told(environment):
    environment(WANDB_API_KEY="short")
    mode, why = decide_mode()
    assert mode == "offline"
    assert "key" in why


@pytest.fixture
def folder(tmp_path):
    """The folder of a run that has begun."""
    made = RunFolder(tmp_path / "run")
    made.root.mkdir()
    made.config.write_text(yaml.safe_dump({"seed": 0, "choices": {"method": "csd"}}))
    return made


def test_a_server_that_refuses_does_not_stop_a_run(environment, broken, folder, capsys):
    environment(WANDB_API_KEY="0" * 40, WANDB_BASE_URL=broken)
    log = WandbLog(folder.root)
    log.log_metrics({"loss": 1.0, "epoch": 0}, step=4)
    log.finish(3)
    (part,) = parts(folder.root)
    assert part.exit_code == 3
    assert part.curve("loss") == [(4, 1.0)]
    assert "epoch" not in part.summary
    assert "wandb is offline (Failed to get" in capsys.readouterr().err


def test_who_asks_for_online_and_is_not_logged_in_is_told_of_offline(environment, folder):
    environment()
    with pytest.raises(ValueError, match="must be offline where nobody"):
        _ = WandbLog(folder.root, mode="online").run


def test_who_asks_for_online_is_told_that_it_cannot_be(environment, broken, folder):
    environment(WANDB_API_KEY="0" * 40, WANDB_BASE_URL=broken)
    with pytest.raises(wandb.Error, match="403"):
        _ = WandbLog(folder.root, mode="online").run


def test_nothing_is_left_in_the_process(environment, folder):
    environment()
    before = dict(os.environ)
    log = WandbLog(folder.root, name="mine", tags=["a"], group="b", job_type="c", project="d")
    log.log_hyperparams({})
    assert wandb.run is None
    log.finish(0)
    log.finish(1)
    assert log.version == ""
    changed = {k for k in before.keys() | os.environ.keys() if before.get(k) != os.environ.get(k)}
    assert changed <= {"WANDB_SERVICE"}  # where this process finds wandb's own
    (part,) = parts(folder.root)
    given = {"display_name": "mine", "tags": "a", "run_group": "b", "job_type": "c", "project": "d"}
    assert {key: part.run[key] for key in given} == given | {"tags": ["a"]}
    assert part.exit_code == 0


def test_the_run_of_a_killed_process_is_ended_by_another(environment, folder):
    environment()
    child = os.fork()
    if child == 0:
        try:
            log = WandbLog(folder.root)
            log.log_metrics({"loss": 1.0}, step=0)
            written = folder.root.glob
            wait_for(lambda: any(f.stat().st_size > 2000 for f in written("wandb/*/*.wandb")))
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(1)  # and never on with the tests of its parent
    os.waitpid(child, 0)
    environment()
    loggers = [CsvLog(folder.root), WandbLog(folder.root)]
    finish_abandoned_wandb(loggers, 1)
    first, second = parts(folder.root)
    assert first.run["run_id"] == second.run["run_id"]
    assert (first.exit_code, second.exit_code) == (None, 1)
    finish_abandoned_wandb(loggers, 1)
    assert len(parts(folder.root)) == 2


def test_an_unknown_mode_is_told(folder):
    with pytest.raises(ValueError, match=r"logger.wandb.mode must be one of online, .* got 'on'"):
        WandbLog(folder.root, mode="on")
