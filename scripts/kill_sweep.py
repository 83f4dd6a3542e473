"""Kills a sweep again and again, and looks whether its results are those of an undisturbed one.

    python scripts/kill_sweep.py --folder /tmp/kills               # 20 kills, about 12 minutes
    python scripts/kill_sweep.py --folder /tmp/kills2 --kills 60 --seed 3

Twelve jobs in seconds each, two of them on two ranks, run first in FOLDER/undisturbed (an earlier
one is used again), then in FOLDER/disturbed. There a launcher, a job's process or a rank is killed
by SIGKILL at a random moment, and the same command is given again whenever it ended, until all is
done. Exit code 1 if a check fails. For Linux: processes are found by their environment.
"""

import argparse
import csv
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import av
import psutil
import torch
import yaml
from PIL import Image
from rich.console import Console
from rich.table import Table

from csd_lab.files import PARTIAL
from csd_lab.sweep import JobFolder, Progress, State, SweepFolder

JOBS = (
    "sweep.name=kills",
    "experiment=colours",
    "data.frames=3",
    "metrics=pixels",
    "method=csd,sds",
    "seed=range(0,6)",
    "trainer=ddp",
    "+ranks={seed0:2}",
    'trainer.devices="${oc.select:ranks.seed${seed},1}"',
    "optimizer=adam",
    "callbacks.checkpoint.every=2",
    "hydra.launcher.devices=null",
    "hydra.launcher.jobs=2",
)
COUNT = 12

MARK = "CSD_LAB_KILL_TEST"
"""Environment variable by which the processes of a test are known, orphans included."""

KINDS = ("launcher", "worker", "rank")

DELAY = 25.0
"""Seconds, at most, after which a victim is killed that was not chosen by its step: most of them go
by while it imports."""

BY_STEP = 0.7
"""Share of kills that wait for a random step of a job, since steps take less time than imports."""

PATIENCE = 45.0
"""Seconds to wait for a victim of a kind before it is another kind's turn."""

HANG = 900.0
"""Seconds after which a launch counts as hanging."""

SPARE = 10
"""Launches that may be needed beside one for each kill."""

SAME = ("metrics.csv", "metrics.json", "edited.mp4")
SAME_STATE = ("global_step", "state_dict", "optimizer_states", "lr_schedulers")

console = Console(width=110)


class Strike(NamedTuple):
    """One kill.

    Attributes:
        launch: number of the launch, from 1.
        kind: of the victim.
        pid: of the victim; 0 if it was gone by then.
        job: that it was at; "" if none.
        moment: what the job was at.
    """

    launch: int
    kind: str
    pid: int
    job: str
    moment: str


class Family:
    """The processes of a test, however they are related."""

    def __init__(self) -> None:
        self.name = secrets.token_hex(8)
        self.launcher: subprocess.Popen[bytes] | None = None

    def members(self) -> Iterator[psutil.Process]:
        """All that live."""
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get(MARK) == self.name:
                    yield process

    def kin(self, kind: str) -> list[psutil.Process]:
        """Those of a kind."""
        return [process for process in self.members() if self._kind(process) == kind]

    def _kind(self, process: psutil.Process) -> str:
        with suppress(psutil.Error, ProcessLookupError):
            command = " ".join(process.cmdline())
            if self.launcher is not None and process.pid == self.launcher.pid:
                return "launcher"
            if "multiprocessing.spawn" in command:
                return "rank"
            if "multiprocessing.forkserver" in command and os.getsid(process.pid) == process.pid:
                return "worker"
        return "other"


class Watcher(threading.Thread):
    """Looks at all jobs many times a second, and notes what a look once in the end would miss.

    Attributes:
        finished: how often each job became done, by its name.
        unread: status files that could not be read whole.
        outputs: what was there when a job was done: file numbers and times by path.
    """

    def __init__(self, sweep: SweepFolder) -> None:
        super().__init__(daemon=True)
        self.sweep = sweep
        self.finished: Counter[str] = Counter()
        self.unread: list[str] = []
        self.outputs: dict[Path, tuple[int, int]] = {}
        self._seen: dict[str, tuple[str, int]] = {}
        self._over = threading.Event()

    def run(self) -> None:
        """Look until told to end."""
        while not self._over.wait(0.05):
            self.look()

    def end(self) -> None:
        """Look once more, and end."""
        self._over.set()
        self.join()
        self.look()

    def look(self) -> None:
        """Look at all jobs."""
        for path in self.sweep.root.glob("*/status.json"):
            try:
                status = json.loads(path.read_bytes())
                now = (status["state"], status["attempts"])
            except (ValueError, KeyError):
                self.unread.append(str(path))
                continue
            name = path.parent.name
            if now != self._seen.get(name) and now[0] == State.DONE:
                self.finished[name] += 1
                for output in (*status["outputs"], "checkpoints/last.ckpt"):
                    self.outputs.setdefault(path.parent / output, stamp(path.parent / output))
            self._seen[name] = now

    def rewritten(self) -> list[str]:
        """Outputs of jobs that were done which are not what they were then."""
        return [str(path) for path, was in self.outputs.items() if stamp(path) != was]


class Reader:
    """Reads every file whole that it has not read yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.read: set[tuple[Path, int, int]] = set()
        self.broken: list[str] = []

    def look(self) -> None:
        """Read what is new or changed."""
        for path in self.root.rglob("*.*"):
            hidden = any(part.startswith(".") for part in path.relative_to(self.root).parts)
            if path.suffix not in READERS or hidden:
                continue
            try:
                known = (path, *stamp(path))
                if known not in self.read:
                    READERS[path.suffix](path)
                    self.read.add(known)
            except FileNotFoundError:
                continue  # deleted since it was found
            except Exception as error:  # whatever a library says of a file that is not whole
                self.broken.append(f"{path}: {type(error).__name__}: {error}")


def stamp(path: Path) -> tuple[int, int]:
    """What changes whenever a file is written again; zeros if there is none."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return 0, 0
    return found.st_ino, found.st_mtime_ns


def read_rows(path: Path) -> None:
    """A table, of which every row has every column."""
    text = path.read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()))
    if not text.endswith("\n") or len({len(row) for row in rows}) != 1:
        raise ValueError("a row is not whole")


def read_clip(path: Path) -> None:
    """A clip with at least a frame, decoded to its end."""
    with av.open(str(path)) as clip:
        if not list(clip.decode(video=0)):
            raise ValueError("no frame")


def read_page(path: Path) -> None:
    """A page with an end."""
    if not path.read_text(encoding="utf-8").rstrip().endswith("</html>"):
        raise ValueError("no end")


READERS = {
    ".json": lambda path: json.loads(path.read_bytes()),
    ".yaml": lambda path: yaml.safe_load(path.read_bytes()),
    ".ckpt": lambda path: torch.load(path, map_location="cpu", weights_only=False),
    ".png": lambda path: Image.open(path).load(),
    ".csv": read_rows,
    ".mp4": read_clip,
    ".html": read_page,
}


class Test:
    """A sweep that is killed until it is done.

    Args:
        folder: where it runs.
        steps: of each job.
        kills: how many.
        chance: chooses victims and moments.
    """

    def __init__(self, folder: Path, steps: int, kills: int, chance: random.Random) -> None:
        self.folder = folder
        self.sweep = SweepFolder(folder / "outputs" / "sweeps" / "kills")
        self.steps = steps
        self.chance = chance
        kinds = [KINDS[i % len(KINDS)] for i in range(kills)]
        self.chance.shuffle(kinds)
        self.plan = deque(kinds)
        self.family = Family()
        self.strikes: list[Strike] = []
        self.codes: list[int] = []
        self.began = 0.0
        self.wrong_codes: list[str] = []
        self.watcher = Watcher(self.sweep)
        self.reader = Reader(self.sweep.root)
        self.leftovers: list[str] = []
        self.temporary: Counter[str] = Counter()

    def run(self) -> None:
        """Give the command until all is done.

        Raises:
            TimeoutError, subprocess.TimeoutExpired: if a launch hangs.
        """
        temporary = Path(mkdtemp(prefix="kills_"))
        most = len(self.plan) + SPARE
        self.watcher.start()
        try:
            while len(self.codes) < most and 0 not in self.codes:
                self.launch(temporary)
            self.leftovers = self.wait_for_quiet()
        finally:
            for process in self.family.members():
                process.kill()
            self.watcher.end()
            self.temporary = Counter(path.name[:-8] for path in temporary.iterdir())
            shutil.rmtree(temporary)
        self.reader.look()

    def launch(self, temporary: Path) -> None:
        """Give the command once, and kill until it has ended."""
        self.family.launcher = self.start(temporary)
        self.began = time.monotonic()
        while self.family.launcher.poll() is None:
            if self.plan:
                self.strike(self.family.launcher)
            else:
                self.family.launcher.wait(HANG)
        self.judge(self.family.launcher.returncode)

    def start(self, temporary: Path) -> "subprocess.Popen[bytes]":
        """Give the command."""
        variables = os.environ | {MARK: self.family.name, "TMPDIR": str(temporary)}
        with (self.folder / f"launch_{len(self.codes) + 1:02}.log").open("wb") as log:
            return subprocess.Popen(
                command(self.steps),
                cwd=self.folder,
                env=variables,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def judge(self, code: int) -> None:
        """Note how a launch ended, and whether its exit code is that of the sweep."""
        self.codes.append(code)
        done = sum(status.state is State.DONE for _, status in self.sweep.jobs())
        say(f"launch {len(self.codes)} ended with {code}; {done} of {COUNT} jobs are done")
        if code != -9 and (code == 0) != (done == COUNT):
            self.wrong_codes.append(f"launch {len(self.codes)}: {code} with {done} jobs done")
        if code not in (0, 1, -9):
            self.wrong_codes.append(f"launch {len(self.codes)}: {code}")

    def strike(self, launcher: "subprocess.Popen[bytes]") -> None:
        """Wait for a victim of the next kind and for a random moment; then kill."""
        if time.monotonic() - self.began > HANG:
            raise TimeoutError(f"The launch did not end within {HANG} s.")
        kind = self.plan[0]
        step = self.chance.randrange(self.steps) if self.chance.random() < BY_STEP else None
        deadline = time.monotonic() + PATIENCE
        while not (victims := self.victims(kind, step)):
            if launcher.poll() is not None or time.monotonic() > deadline:
                self.plan.rotate(-1)
                return
            time.sleep(0.05)
        if step is None:
            time.sleep(self.chance.uniform(0, DELAY))
            victims = self.victims(kind, None)
        self.strikes.append(self.kill(kind, victims))
        if self.strikes[-1].kind == "launcher" and self.strikes[-1].pid:
            launcher.wait()
        say(" ".join(str(part) for part in self.strikes[-1]))
        if self.strikes[-1].pid:
            self.plan.popleft()
        else:
            self.plan.rotate(-1)
        self.reader.look()

    def victims(self, kind: str, step: int | None) -> list[psutil.Process]:
        """Processes of a kind that live, and whose job is that far."""
        kin = self.family.kin(kind)
        if step is None or not kin:
            return kin
        far = {
            status.pid
            for job, status in self.sweep.jobs()
            if status.state is State.RUNNING
            and (progress := job.progress()) is not None
            and progress.step >= step
        }
        if kind == "launcher":
            return kin if far else []
        with suppress(psutil.NoSuchProcess):
            return [each for each in kin if (each.pid if kind == "worker" else each.ppid()) in far]
        return []

    def kill(self, kind: str, victims: list[psutil.Process]) -> Strike:
        """Kill one of several of a kind, if there still is one."""
        launch = len(self.codes) + 1
        if not victims:
            return Strike(launch, kind, 0, "", "gone by then")
        victim = self.chance.choice(victims)
        job, moment = self.moment(victim, kind)
        try:
            if victim.status() == psutil.STATUS_ZOMBIE:
                raise psutil.NoSuchProcess(victim.pid)
            victim.kill()
        except psutil.NoSuchProcess:
            return Strike(launch, kind, 0, job, "gone by then")
        return Strike(launch, kind, victim.pid, job, moment)

    def moment(self, victim: psutil.Process, kind: str) -> tuple[str, str]:
        """At which job a victim is, and how far."""
        jobs = list(self.sweep.jobs())
        if kind == "launcher":
            states = Counter(status.state.value for _, status in jobs)
            return "", ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        with suppress(psutil.NoSuchProcess):
            pid = victim.pid if kind == "worker" else victim.ppid()
            for job, status in jobs:
                if status.state is State.RUNNING and status.pid == pid:
                    return job.root.name, told(job.progress())
        return "", "not at its job, or no longer"

    def wait_for_quiet(self, seconds: float = 60.0) -> list[str]:
        """Wait until no process is left.

        Returns:
            Those that are left all the same.
        """
        end = time.monotonic() + seconds
        while (left := list(self.family.members())) and time.monotonic() < end:
            time.sleep(0.2)
        return [str(process) for process in left]


def told(progress: Progress | None) -> str:
    """How far a job said that it is."""
    return f"step {progress.step} of {progress.steps}" if progress else "before its first step"


def say(text: str) -> None:
    """One line on what happens."""
    print(time.strftime("%H:%M:%S"), text, flush=True)


def command(steps: int) -> list[str]:
    """The command of the sweep."""
    return [sys.executable, "-m", "csd_lab.cli", "-m", *JOBS, f"trainer.max_steps={steps}"]


def undisturbed(folder: Path, steps: int) -> SweepFolder:
    """The sweep that nobody disturbs.

    Raises:
        SystemExit: if it fails by itself.
    """
    folder.mkdir(parents=True, exist_ok=True)
    say(f"undisturbed, in {folder}")
    with (folder / "launch.log").open("wb") as log:
        code = subprocess.call(command(steps), cwd=folder, stdout=log, stderr=subprocess.STDOUT)
    if code:
        sys.exit(f"The undisturbed sweep failed; see {folder / 'launch.log'}.")
    return SweepFolder(folder / "outputs" / "sweeps" / "kills")


def state_of(job: JobFolder) -> dict[str, Any]:
    """What a job's last checkpoint holds of its result."""
    content = torch.load(job.files.checkpoint, map_location="cpu", weights_only=False)
    return {key: content[key] for key in SAME_STATE}


def same(a: Any, b: Any) -> bool:
    """Whether two states are equal bit by bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def differences(wanted: JobFolder, found: JobFolder) -> list[str]:
    """In what a job's result is another than it should be."""
    name = found.root.name
    try:
        files = [
            f"{name}: {file}"
            for file in SAME
            if (wanted.root / file).read_bytes() != (found.root / file).read_bytes()
        ]
        good, state = state_of(wanted), state_of(found)
    except OSError as error:
        return [f"{name}: {error}"]
    return files + [f"{name}: {key}" for key in good if not same(good[key], state[key])]


def checks(test: Test, reference: SweepFolder, kills: int) -> dict[str, list[str]]:
    """All that must hold, and where it does not."""
    wanted = reference.latest.jobs if reference.latest else ()
    found = {job.root.name: status for job, status in test.sweep.jobs()}
    hits = Counter(strike.kind for strike in test.strikes if strike.pid)
    few = [] if sum(hits.values()) >= kills else [f"{sum(hits.values())}; raise --steps"]
    partial = [str(path) for path in test.folder.rglob(f"{PARTIAL}*")]
    different = [
        line for name in wanted for line in differences(reference.job(name), test.sweep.job(name))
    ]
    return {
        f"at least {kills} kills": few,
        "some of every kind": [kind for kind in KINDS if not hits[kind]],
        f"{COUNT} jobs, none lost": sorted(set(wanted) ^ set(found)),
        "every job is done": [n for n, s in found.items() if s.state is not State.DONE],
        "no job was done twice": [
            f"{name}: {test.watcher.finished[name]} times"
            for name in wanted
            if test.watcher.finished[name] != 1
        ],
        "what was done was not touched again": test.watcher.rewritten(),
        "every result is that of the undisturbed sweep, bit by bit": different,
        "every file was whole whenever it was read": test.reader.broken + test.watcher.unread,
        "no temporary file is left in the sweep": partial,
        "no process is left": test.leftovers,
        "every launch had the sweep's exit code": test.wrong_codes,
    }


def show(test: Test, verdicts: dict[str, list[str]]) -> None:
    """Print what was done, and what became of it."""
    hits = [strike for strike in test.strikes if strike.pid]
    kills = Table("victim", "kills", "after a first step", "not at a job", "missed", title="Kills")
    for kind in KINDS:
        own = [strike for strike in hits if strike.kind == kind]
        idle = sum(not strike.job for strike in own) if kind != "launcher" else "-"
        stepped = (
            sum(strike.moment.startswith("step ") for strike in own) if kind != "launcher" else "-"
        )
        missed = sum(strike.kind == kind and not strike.pid for strike in test.strikes)
        kills.add_row(kind, str(len(own)), str(stepped), str(idle), str(missed))
    jobs = Table("job", "method, seed", "ranks", "attempts", "kills", "state", title="Jobs")
    for job, status in test.sweep.jobs():
        settings = [item for item in status.overrides if item.startswith(("method=", "seed="))]
        ranks = "2" if "seed=0" in settings else "1"
        struck = sum(strike.job == job.root.name for strike in hits)
        figures = (str(status.attempts), str(struck), status.state)
        jobs.add_row(job.root.name, " ".join(settings), ranks, *figures)
    found = Table("check", "", title="Checks", show_lines=False)
    for check, wrong in verdicts.items():
        found.add_row(check, "yes" if not wrong else "NO: " + "; ".join(wrong[:5]))
    codes = Counter("killed" if code == -9 else f"exit code {code}" for code in test.codes)
    console.print(kills, jobs, found)
    ends = ", ".join(f"{count} {code}" for code, count in codes.items())
    console.print(f"{len(test.codes)} launches: {ends}. {len(test.reader.read)} files read whole.")
    litter = ", ".join(f"{count} {name}*" for name, count in sorted(test.temporary.items()))
    console.print(f"Left by the killed in the system's temporary folder: {litter or 'nothing'}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, required=True, help="to be made; see above")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0, help="of victims and moments")
    parser.add_argument("--steps", type=int, default=900, help="of each job")
    options = parser.parse_args()
    folder = options.folder.resolve()
    disturbed = folder / "disturbed"
    if disturbed.exists():
        parser.error(f"--folder must have no sweep that was disturbed before, got {disturbed}.")
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # the same threads on every launch
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))  # leave nothing
    start = time.monotonic()
    reference = undisturbed(folder / "undisturbed", options.steps)
    say(f"disturbed, in {disturbed}")
    disturbed.mkdir()
    test = Test(disturbed, options.steps, options.kills, random.Random(options.seed))
    test.run()
    verdicts = checks(test, reference, options.kills)
    show(test, verdicts)
    console.print(f"{(time.monotonic() - start) / 60:.1f} minutes.")
    sys.exit(1 if any(verdicts.values()) else 0)


if __name__ == "__main__":
    main()
