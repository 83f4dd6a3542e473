"""The page holds all it shows, asks nothing of the network, and shows text as text."""

import json
import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from small_pages import ANY_TEXT, HOSTILE, hostile_page

from csd_lab.html import fit_to_show, relative_link
from csd_lab.report import RunPage, write_run_page
from csd_lab.report.page import MAX_EMBEDDED
from csd_lab.report.text import without_terminal_codes
from csd_lab.sweep.status import State


class Reader(HTMLParser):
    """What a page consists of."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.texts: dict[str, str] = {}
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag not in ("meta", "link", "img", "input", "br"):
            self._open.append(dict(attrs).get("id") or tag)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open:
            self.texts[self._open[-1]] = self.texts.get(self._open[-1], "") + data


def read(path: Path) -> Reader:
    return Reader(path.read_text(encoding="utf-8"))


def as_parsed(text: str) -> str:
    """What an HTML parser makes of text that was written into a page."""
    return re.sub("\r\n?", "\n", fit_to_show(text))


def test_all_is_embedded(tmp_path: Path, page: RunPage) -> None:
    write_run_page(tmp_path / "report.html", page)
    reader = read(tmp_path / "report.html")
    assert len(reader.addresses) == 5
    assert all(address.startswith("data:") for address in reader.addresses)
    assert reader.tags.count("video") == 2
    assert sum(address.startswith("data:video/mp4;base64,") for address in reader.addresses) == 2
    assert sum(address.startswith("data:image/png;base64,") for address in reader.addresses) == 2
    text = (tmp_path / "report.html").read_text()
    assert "http://" not in text
    assert "https://" not in text
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_metrics_tell_which_way_is_better(tmp_path: Path, page: RunPage) -> None:
    write_run_page(tmp_path / "report.html", page)
    text = (tmp_path / "report.html").read_text()
    cells = re.findall(r"<tr>\s*<th scope=\"row\">(.*?)</th>(.*?)</tr>", text, re.DOTALL)
    rows = {name: re.findall(r"<td[^>]*>(.*?)</td>", row) for name, row in cells}
    assert rows == {
        "psnr_target": ["27.21", "dB", "↑ higher", "PSNR to the right answer."],
        "error_spread": ["0.0125", "", "↓ lower", "Spread of the error over frames."],
        "nothing": ["undefined", "", "", ""],
    }


@pytest.mark.parametrize(
    ("state", "headline", "resumable"),
    [
        (State.DONE, "Finished after 100 steps", False),
        (State.INTERRUPTED, "Interrupted after 40 of 100 steps", True),
        (State.FAILED, "Failed after 40 of 100 steps", True),
    ],
)
def test_how_it_ended(
    tmp_path: Path, page: RunPage, state: State, headline: str, resumable: bool
) -> None:
    page = page._replace(state=state, step=40, message="Why it ended.")
    write_run_page(tmp_path / "report.html", page)
    text = (tmp_path / "report.html").read_text()
    assert headline in text
    assert "Why it ended." in text
    assert ("csd-lab resume=outputs/run" in text) == resumable


def test_the_end_of_the_log_is_shown(tmp_path: Path, page: RunPage) -> None:
    write_run_page(tmp_path / "report.html", page._replace(log=page.log + "\n\x1b[1;31mred\x1b[0m"))
    lines = read(tmp_path / "report.html").texts["log"].splitlines()
    assert (len(lines), lines[-2], lines[-1]) == (200, "line 399", "red")


def test_an_early_failure_has_a_page_too(tmp_path: Path) -> None:
    page = RunPage("clip", "", State.FAILED, 0, 10, videos={"edited": tmp_path / "edited.mp4"})
    write_run_page(tmp_path / "report.html", page)
    text = (tmp_path / "report.html").read_text()
    assert "edited.mp4 was not written" in text
    assert "<video" not in text.split("<script>")[0]


def test_large_files_are_linked(tmp_path: Path, page: RunPage) -> None:
    video = tmp_path / "a b#?.mp4"
    with video.open("wb") as file:
        file.truncate(MAX_EMBEDDED + 1)
    write_run_page(tmp_path / "report.html", page._replace(videos={"edited": video}))
    assert "a%20b%23%3F.mp4" in read(tmp_path / "report.html").addresses
    assert (tmp_path / "report.html").stat().st_size < 2**20


def test_names_that_are_no_text_are_linked_by_their_bytes(tmp_path: Path) -> None:
    assert relative_link(tmp_path / os.fsdecode(b"a\xff.mp4"), tmp_path) == "a%FF.mp4"


def test_files_to_take_home_are_linked_where_they_are(tmp_path: Path, page: RunPage) -> None:
    there, missing = tmp_path / "mesh.ply", tmp_path / "points.ply"
    there.write_bytes(bytes(1_200_000))
    page = page._replace(files={"the surface": there, "points": missing})
    write_run_page(tmp_path / "report.html", page)
    assert "mesh.ply" in read(tmp_path / "report.html").addresses
    text = (tmp_path / "report.html").read_text()
    assert "1.2 MB" in text
    assert "points.ply" not in text


def test_videos_along_a_path_have_controls_of_their_own(tmp_path: Path, page: RunPage) -> None:
    write_run_page(tmp_path / "report.html", page._replace(paths=page.videos))
    reader = read(tmp_path / "report.html")
    assert reader.tags.count("video") == 4
    assert reader.attributes.count(("class", "together")) == 2
    assert reader.attributes.count(("class", "player")) == 2


def test_a_run_that_has_not_ended_has_no_page(tmp_path: Path, page: RunPage) -> None:
    with pytest.raises(ValueError, match="one of done, interrupted, failed, got running"):
        write_run_page(tmp_path / "report.html", page._replace(state=State.RUNNING))
    assert list(tmp_path.iterdir()) == []


def check_hostile(path: Path, page: RunPage, text: str) -> None:
    write_run_page(path, hostile_page(page, "harmless"))
    tags = read(path).tags
    write_run_page(path, hostile_page(page, text))
    reader = read(path)
    if text.strip():
        assert reader.tags == tags, "text must not become a tag"
        assert reader.texts["command"] == as_parsed(text)
        assert reader.texts["config"] == as_parsed(text)
        log = "\n".join(without_terminal_codes(text).splitlines())
        assert reader.texts.get("log", "") == as_parsed(log)
    assert not any(name.startswith("on") for name, _ in reader.attributes)


def test_hostile_text_stays_text(tmp_path: Path, page: RunPage) -> None:
    check_hostile(tmp_path / "report.html", page, HOSTILE)


@given(text=ANY_TEXT)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
def test_any_text_stays_text(tmp_path: Path, page: RunPage, text: str) -> None:
    page = page._replace(videos={}, plots={})
    check_hostile(tmp_path / "report.html", page, text)


def test_a_config_is_copied_as_it_is(tmp_path: Path, page: RunPage) -> None:
    config = json.dumps({"prompt": "<b>&amp;\n'\"", "x": [1, 2]}, indent=1)
    write_run_page(tmp_path / "report.html", page._replace(config=config))
    assert read(tmp_path / "report.html").texts["config"] == config
