"""The page in a real browser: clips play in step, nothing else runs, nothing is asked for."""

from collections.abc import Iterator
from pathlib import Path

import browser
import pytest
import torch
from PIL import Image
from small_pages import HOSTILE, hostile_page

from csd_lab.data import write_video
from csd_lab.report import RunPage, write_run_page
from csd_lab.sweep.status import State

pytestmark = pytest.mark.skipif(browser.find() is None, reason="no Chromium on this machine")

READY = "[...document.querySelectorAll('video')].every(v => v.readyState >= 2)"
TIMES = "[...document.querySelectorAll('video')].map(v => v.currentTime)"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    with browser.tab(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(shared: browser.Tab) -> browser.Tab:
    shared.complaints.clear()
    shared.requests.clear()
    return shared


def test_clips_play_in_step(tab: browser.Tab, tmp_path: Path, page: RunPage) -> None:
    path = tmp_path / "report.html"
    write_run_page(path, page)
    tab.open(path)
    tab.wait_for(READY)
    sizes = "[...document.querySelectorAll('video')].map(v => [v.videoWidth, v.videoHeight])"
    assert tab.evaluate(sizes) == [[60, 40], [60, 40]]
    assert tab.evaluate("[...document.querySelectorAll('.size')].map(e => e.textContent)") == [
        "60 × 40",
        "60 × 40",
    ]
    state = "[...document.querySelectorAll('video')].map(v => v.loop && v.muted && !v.paused)"
    assert tab.evaluate(state) == [True, True]
    tab.wait_for(f"{TIMES}.every(t => t > 0)")
    tab.evaluate("document.querySelector('.play').click()")
    tab.wait_for("[...document.querySelectorAll('video')].every(v => v.paused && !v.seeking)")
    first, second = tab.evaluate(TIMES)
    assert first == pytest.approx(second, abs=0.01)
    tab.evaluate(
        "(place => { place.value = 0.5; place.dispatchEvent(new Event('input')); })"
        "(document.querySelector('.place'))"
    )
    tab.wait_for(f"{TIMES}.every(t => Math.abs(t - 0.75) < 0.01)")
    tab.evaluate("document.querySelector('.play').click()")
    tab.wait_for("[...document.querySelectorAll('video')].every(v => !v.paused)")
    assert tab.complaints == []


def test_only_the_page_itself_is_asked_for(tab: browser.Tab, tmp_path: Path, page: RunPage) -> None:
    path = tmp_path / "report.html"
    write_run_page(path, page)
    tab.open(path)
    tab.wait_for(READY)
    asked = {address for address in tab.requests if not address.startswith("data:")}
    assert asked == {path.resolve().as_uri()}
    assert tab.complaints == []


def test_injected_markup_is_shown_as_text(tab: browser.Tab, tmp_path: Path, page: RunPage) -> None:
    path = tmp_path / "report.html"
    write_run_page(path, hostile_page(page, HOSTILE))
    tab.open(path)
    tab.wait_for("document.readyState === 'complete'")
    assert tab.evaluate("typeof window.pwned") == "undefined"
    assert tab.evaluate("document.querySelectorAll('script, style').length") == 2
    shown = tab.evaluate("document.querySelector('blockquote').textContent")
    assert shown.startswith("<script>window.pwned = 1</script><img src=x onerror=")
    assert "{{ 7 * 7 }}{% raw %}" in shown
    assert tab.complaints == []


def test_foreign_scripts_do_not_run_even_unescaped(
    tab: browser.Tab, tmp_path: Path, page: RunPage
) -> None:
    """The second wall: were the escaping to fail, the policy would stop the script."""
    path = tmp_path / "report.html"
    write_run_page(path, page._replace(prompt="INJECTED"))
    markup = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"
    path.write_text(path.read_text().replace("INJECTED", markup))
    tab.open(path)
    tab.wait_for(READY)
    assert tab.evaluate("typeof window.pwned") == "undefined"
    assert any("Content Security Policy" in complaint for complaint in tab.complaints)


@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_sticks_out(tab: browser.Tab, tmp_path: Path, page: RunPage, width: int) -> None:
    for text in ("harmless", HOSTILE):
        write_run_page(tmp_path / "report.html", hostile_page(page, text))
        tab.open(tmp_path / "report.html", width=width)
        tab.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_dark_and_light(tab: browser.Tab, tmp_path: Path, page: RunPage) -> None:
    write_run_page(tmp_path / "report.html", page)
    colours = []
    for dark in (False, True):
        tab.open(tmp_path / "report.html", dark=dark)
        colours.append(tab.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert colours == ["rgb(246, 247, 249)", "rgb(19, 22, 26)"]


def test_colours_of_a_clip_are_those_of_its_frames(tab: browser.Tab, tmp_path: Path) -> None:
    """What the browser shows of a written video is what was written, within a few levels."""
    for index, colour in enumerate([(230, 40, 30), (30, 160, 60), (20, 60, 200), (128, 128, 128)]):
        frames = torch.tensor(colour).div(255)[:, None, None].expand(4, 3, 64, 64)
        write_video(tmp_path / f"{index}.mp4", frames, 8)
        videos = {"clip": tmp_path / f"{index}.mp4"}
        write_run_page(tmp_path / "report.html", RunPage("x", "x", State.DONE, 1, 1, videos=videos))
        tab.open(tmp_path / "report.html")
        tab.wait_for(READY)
        tab.wait_for(f"{TIMES}.every(t => t > 0)")
        tab.screenshot(tmp_path / "shot.png")
        box = tab.evaluate(
            "(r => [r.x + r.width / 2, r.y + r.height / 2])"
            "(document.querySelector('video').getBoundingClientRect())"
        )
        shown = (
            Image.open(tmp_path / "shot.png").convert("RGB").getpixel((int(box[0]), int(box[1])))
        )
        assert max(abs(a - b) for a, b in zip(shown, colour, strict=True)) <= 10
