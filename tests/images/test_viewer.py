"""The divider between two pictures in a real browser: dragged, zoomed, panned, and by keys.

The pictures are gradients, so that a colour on the screen says which point of which picture it is.
"""

import base64
import io
from collections.abc import Iterator
from pathlib import Path

import browser
import numpy as np
import pytest
from PIL import Image

from csd_lab.report import RunPage, write_run_page
from csd_lab.report.pictures import MOST_PIXELS, show
from csd_lab.sweep.status import State

pytestmark = pytest.mark.skipif(browser.find() is None, reason="no Chromium on this machine")

WIDTH, HEIGHT = 400, 160
DRAWN = "new Promise(done => requestAnimationFrame(() => requestAnimationFrame(() => done(true))))"
SOURCE, EDITED, ANSWER = 0, 120, 240
"""Levels of blue that tell the pictures apart."""


def gradient(blue: int, width: int = WIDTH, height: int = HEIGHT) -> Image.Image:
    """Red counts columns and green rows, from 0 to 255."""
    y, x = np.mgrid[0:height, 0:width]
    red, green = np.rint(x * 255 / (width - 1)), np.rint(y * 255 / (height - 1))
    pixels = np.stack([red, green, np.full_like(red, blue)], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def page_of(folder: Path, **pictures: Image.Image) -> Path:
    compared = {}
    for name, image in pictures.items():
        image.save(folder / f"{name}.png")
        compared[name.replace("_", " ")] = folder / f"{name}.png"
    path = folder / "report.html"
    write_run_page(path, RunPage("river", "make it night", State.DONE, 9, 9, compared=compared))
    return path


class Viewer:
    """The viewer of an open page, by what a user does and sees."""

    def __init__(self, tab: browser.Tab, path: Path, width: int = 1280, dark: bool = False) -> None:
        self.tab = tab
        tab.complaints.clear()
        tab.requests.clear()
        tab.open(path, width=width, dark=dark)
        tab.wait_for("[...document.images].every(i => i.complete && i.naturalWidth)")
        tab.evaluate("scrollTo(0, 0)")
        box = "(r => [r.x, r.y, r.width, r.height])(%s.getBoundingClientRect())"
        stage = "document.getElementById('viewer-stage')"
        self.left, self.top, self.width, self.height = tab.evaluate(box % stage)
        tab.evaluate(DRAWN)

    def at(self, across: float, down: float) -> tuple[float, float]:
        """A place on the stage, given by shares of its sides, on the page."""
        return self.left + across * self.width, self.top + down * self.height

    def colour(self, across: float, down: float) -> tuple[int, int, int]:
        """What the canvas shows there."""
        self.tab.evaluate(DRAWN)
        place = f"{round(across * self.width)}, {round(down * self.height)}, 1, 1"
        shown = self.tab.evaluate(
            "(pen => {"
            "  pen.clearRect(0, 0, 1, 1);"
            f" pen.drawImage(document.getElementById('viewer-canvas'), {place}, 0, 0, 1, 1);"
            "  return [...pen.getImageData(0, 0, 1, 1).data].slice(0, 3);"
            "})(document.createElement('canvas').getContext('2d', { willReadFrequently: true }))"
        )
        return tuple(shown)

    def mouse(self, kind: str, across: float, down: float, **more: float) -> None:
        x, y = self.at(across, down)
        self.tab.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        self.mouse("mousePressed", *start, button="left", buttons=1, clickCount=1)
        for share in (0.5, 1.0):
            across, down = (a + share * (b - a) for a, b in zip(start, end, strict=True))
            self.mouse("mouseMoved", across, down, button="left", buttons=1)
        self.mouse("mouseReleased", *end, button="left", buttons=0, clickCount=1)

    def wheel(self, across: float, down: float, delta: float) -> None:
        self.mouse("mouseWheel", across, down, deltaX=0, deltaY=delta)

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        places = [
            dict(zip("xy", self.at(*point), strict=True), id=i) for i, point in enumerate(points)
        ]
        self.tab.call("Input.dispatchTouchEvent", type=kind, touchPoints=places)

    def key(self, name: str, text: str = "", shift: bool = False) -> None:
        for kind in ("keyDown", "keyUp"):
            more = {"text": text} if text and kind == "keyDown" else {}
            self.tab.call(
                "Input.dispatchKeyEvent", type=kind, key=name, modifiers=8 if shift else 0, **more
            )

    def focus(self, name: str) -> None:
        self.tab.evaluate(f"document.getElementById('{name}').focus()")

    @property
    def share(self) -> int:
        """Of the left picture, as assistive technology hears it, in per cent."""
        return int(
            self.tab.evaluate(
                "document.getElementById('viewer-divider').getAttribute('aria-valuenow')"
            )
        )

    @property
    def zoom(self) -> int:
        """As shown, in per cent."""
        return int(self.tab.evaluate("document.getElementById('viewer-zoom').value").split()[0])


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[browser.Tab]:
    with browser.tab(tmp_path_factory.mktemp("profile")) as shared:
        yield shared


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    return page_of(
        folder, source=gradient(SOURCE), edited=gradient(EDITED), right_answer=gradient(ANSWER)
    )


@pytest.fixture
def viewer(tab: browser.Tab, path: Path) -> Iterator[Viewer]:
    found = Viewer(tab, path)
    yield found
    assert tab.complaints == []


def test_both_pictures_are_shown_in_place(viewer: Viewer) -> None:
    assert viewer.share == 50
    for across, blue in {0.2: SOURCE, 0.45: SOURCE, 0.55: EDITED, 0.9: EDITED}.items():
        shown = viewer.colour(across, 0.3)
        assert shown == pytest.approx((255 * across, 255 * 0.3, blue), abs=3)
    names = "[...document.querySelectorAll('.viewer-name')].map(e => e.textContent)"
    assert viewer.tab.evaluate(names) == ["source", "edited"]


def test_dragging_the_divider(viewer: Viewer) -> None:
    viewer.drag((0.5, 0.5), (0.8, 0.6))
    assert viewer.share == 80
    assert viewer.colour(0.75, 0.3)[2] == SOURCE
    assert viewer.colour(0.85, 0.3)[2] == EDITED
    viewer.drag((0.8, 0.2), (-0.2, 0.2))
    assert viewer.share == 0
    assert viewer.colour(0.03, 0.5)[2] == EDITED
    viewer.drag((0.3, 0.5), (0.4, 0.5))
    assert viewer.share == 40, "the divider comes to where a whole picture is pressed"


def test_the_wheel_zooms_around_the_pointer(viewer: Viewer) -> None:
    whole, before = viewer.zoom, viewer.colour(0.25, 0.7)
    for _ in range(4):
        viewer.wheel(0.25, 0.7, -200)
    assert viewer.zoom > 3 * whole
    assert viewer.colour(0.25, 0.7) == pytest.approx(before, abs=3)
    assert viewer.colour(0.05, 0.7)[0] > 0.25 * 255 - 0.3 * 255 / 3
    for _ in range(8):
        viewer.wheel(0.25, 0.7, 200)
    assert viewer.zoom == whole
    assert viewer.colour(0.25, 0.7) == pytest.approx(before, abs=3)


def test_the_wheel_scrolls_the_page_on_where_there_is_nothing_to_zoom_out(viewer: Viewer) -> None:
    viewer.tab.evaluate("document.body.style.minHeight = '3000px'")
    viewer.wheel(0.5, 0.5, 300)
    viewer.tab.wait_for("scrollY > 100")


def test_dragging_pans_a_picture_that_was_zoomed(viewer: Viewer) -> None:
    for _ in range(4):
        viewer.wheel(0.25, 0.5, -200)
    place, share = viewer.colour(0.25, 0.5), viewer.share
    viewer.drag((0.25, 0.5), (0.35, 0.6))
    assert viewer.share == share
    assert viewer.colour(0.35, 0.6) == pytest.approx(place, abs=3)
    viewer.drag((0.1, 0.1), (3.0, 3.0))
    assert viewer.colour(0.0, 0.0)[:2] == pytest.approx((0, 0), abs=3)
    viewer.drag((0.5, 0.5), (0.7, 0.5))
    assert viewer.share == 70, "the divider stays a divider"


def test_keys_of_the_divider(viewer: Viewer) -> None:
    viewer.focus("viewer-divider")
    viewer.key("ArrowRight")
    assert viewer.share == 52
    viewer.key("ArrowLeft", shift=True)
    assert viewer.share == 42
    viewer.key("End")
    assert viewer.share == 100
    viewer.key("Home")
    assert viewer.share == 0
    spoken = "document.getElementById('viewer-divider').getAttribute('aria-valuetext')"
    assert viewer.tab.evaluate(spoken) == "0 % source"


def test_keys_of_the_picture(viewer: Viewer) -> None:
    viewer.focus("viewer-stage")
    whole = viewer.zoom
    viewer.key("+", "+")
    assert viewer.zoom == pytest.approx(1.25 * whole, abs=1)
    viewer.key("-", "-")
    assert viewer.zoom == whole
    viewer.key("+", "+")
    viewer.key("+", "+")
    before = viewer.colour(0.3, 0.3)
    viewer.key("ArrowRight")
    viewer.key("ArrowDown")
    after = viewer.colour(0.3, 0.3)
    moved = 60 / (viewer.zoom / 100)
    assert after[0] - before[0] == pytest.approx(moved * 255 / WIDTH, abs=4)
    assert after[1] - before[1] == pytest.approx(moved * 255 / HEIGHT, abs=4)
    viewer.key("0", "0")
    assert viewer.zoom == whole
    assert viewer.share == 50


def test_one_pixel_a_pixel(tab: browser.Tab, tmp_path: Path) -> None:
    large = page_of(tmp_path, source=gradient(0, 3000, 1500), edited=gradient(9, 3000, 1500))
    viewer = Viewer(tab, large)
    assert viewer.zoom < 50
    tab.evaluate("document.getElementById('viewer-one').click()")
    assert viewer.zoom == 100
    left, right = viewer.colour(0.1, 0.5)[0], viewer.colour(0.4, 0.5)[0]
    assert right - left == pytest.approx(0.3 * viewer.width * 255 / 3000, abs=2)
    tab.evaluate("document.getElementById('viewer-fit').click()")
    assert viewer.zoom < 50


def test_pixels_are_seen_as_they_are_when_they_are_large(viewer: Viewer) -> None:
    for _ in range(40):
        viewer.wheel(0.1, 0.5, -200)
    assert viewer.zoom == 3200
    shades = {viewer.colour(0.1 + i / viewer.width, 0.5)[0] for i in range(64)}
    assert len(shades) <= 4


def test_another_picture_can_be_chosen(viewer: Viewer) -> None:
    for side, choice in (("right", 2), ("left", 1)):
        viewer.tab.evaluate(
            f"(s => {{ s.value = '{choice}'; s.dispatchEvent(new Event('change')); }})"
            f"(document.getElementById('viewer-{side}'))"
        )
    assert viewer.colour(0.2, 0.5)[2] == EDITED
    assert viewer.colour(0.8, 0.5)[2] == ANSWER
    names = "[...document.querySelectorAll('.viewer-name')].map(e => e.textContent)"
    assert viewer.tab.evaluate(names) == ["edited", "right answer"]


def test_two_fingers_zoom_and_one_drags_the_divider(viewer: Viewer) -> None:
    whole = viewer.zoom
    viewer.touch("touchStart", (0.3, 0.5))
    viewer.touch("touchStart", (0.3, 0.5), (0.4, 0.5))
    middle = viewer.colour(0.35, 0.5)
    viewer.touch("touchMove", (0.25, 0.5), (0.45, 0.5))
    viewer.touch("touchMove", (0.2, 0.5), (0.5, 0.5))
    viewer.touch("touchEnd")
    assert viewer.zoom == pytest.approx(3 * whole, rel=0.02)
    assert viewer.colour(0.35, 0.5) == pytest.approx(middle, abs=3)
    viewer.touch("touchStart", (0.5, 0.5))
    viewer.touch("touchMove", (0.6, 0.5))
    viewer.touch("touchEnd")
    assert viewer.share == 60


def test_a_window_of_another_size_keeps_the_whole_picture(viewer: Viewer) -> None:
    viewer.tab.call(
        "Emulation.setDeviceMetricsOverride",
        width=600,
        height=900,
        deviceScaleFactor=2,
        mobile=False,
    )
    viewer.tab.wait_for(
        "document.getElementById('viewer-canvas').width === "
        "2 * document.getElementById('viewer-stage').clientWidth"
    )
    stage = "document.getElementById('viewer-stage').clientWidth"
    assert viewer.zoom == pytest.approx(100 * viewer.tab.evaluate(stage) / WIDTH, abs=1)


def test_the_page_holds_all_it_shows_and_links_the_files(viewer: Viewer, path: Path) -> None:
    asked = {address for address in viewer.tab.requests if not address.startswith("data:")}
    assert asked == {path.resolve().as_uri()}
    links = "[...document.querySelectorAll('.viewer-note a')].map(a => a.getAttribute('href'))"
    names = viewer.tab.evaluate(links)
    assert names == ["source.png", "edited.png", "right_answer.png"]
    assert all((path.parent / name).is_file() for name in names)
    note = viewer.tab.evaluate("document.querySelectorAll('.viewer-note')[1].textContent")
    assert note.startswith("400 × 160 pixels")


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("size", [(60, 40), (40, 600), (2000, 20)])
def test_nothing_sticks_out(
    tab: browser.Tab, tmp_path: Path, width: int, size: tuple[int, int]
) -> None:
    names = {"source": gradient(0, *size), "x" * 200: gradient(9, *size)}
    viewer = Viewer(tab, page_of(tmp_path, **names), width=width, dark=True)
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert 200 < viewer.height < 0.8 * 900
    assert tab.complaints == []


def test_what_shines_through_shows_checks(tab: browser.Tab, tmp_path: Path) -> None:
    clear = gradient(0)
    clear.putalpha(0)
    viewer = Viewer(tab, page_of(tmp_path, source=clear, edited=clear))
    shades = {viewer.colour(0.2 + i / viewer.width, 0.5) for i in range(17)}
    assert shades == {(255, 255, 255), (204, 204, 204)}


def test_pictures_that_are_not_there_are_told(tab: browser.Tab, tmp_path: Path) -> None:
    compared = {"source": tmp_path / "source.png", "edited": tmp_path / "edited.png"}
    page = RunPage("river", "make it night", State.FAILED, 3, 9, compared=compared)
    write_run_page(tmp_path / "report.html", page)
    tab.complaints.clear()
    tab.open(tmp_path / "report.html")
    shown = tab.evaluate("document.body.innerText")
    assert "source.png was not written" in shown
    assert "edited.png was not written" in shown
    assert tab.evaluate("document.getElementById('viewer')") is None
    assert tab.complaints == []


def test_without_scripts_the_pictures_stand_below_each_other(tab: browser.Tab, path: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        tab.open(path)
        sizes = tab.evaluate("[...document.images].map(i => [i.offsetParent !== null, i.width])")
        hidden = tab.evaluate("document.getElementById('viewer').offsetParent === null")
    finally:
        tab.call("Emulation.setScriptExecutionDisabled", value=False)
    assert [visible for visible, _ in sizes] == [True] * 3
    assert hidden


def embedded(data: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(data.partition(",")[2])))


def test_small_files_are_embedded_as_they_are(tmp_path: Path) -> None:
    gradient(3).save(tmp_path / "a b.png")
    shown = show("source", tmp_path / "a b.png", tmp_path)
    assert shown.data.startswith("data:image/png;base64,")
    assert base64.b64decode(shown.data.partition(",")[2]) == (tmp_path / "a b.png").read_bytes()
    assert (shown.width, shown.height, shown.clear, shown.link) == (400, 160, False, "a%20b.png")


def test_large_files_are_compressed_and_huge_ones_reduced(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1100, 1000, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png", compress_level=1)
    shown = show("source", tmp_path / "a.png", tmp_path)
    assert shown.data.startswith("data:image/jpeg;base64,")
    assert embedded(shown.data).size == (1000, 1100)
    layers = np.dstack([noise, noise[..., 0]])
    Image.fromarray(layers).save(tmp_path / "b.png", compress_level=1)
    shown = show("source", tmp_path / "b.png", tmp_path)
    assert shown.clear
    assert shown.data.startswith("data:image/webp;base64,")
    assert embedded(shown.data).mode == "RGBA"
    huge = np.resize(noise[0], (4200, 4200, 3))
    Image.fromarray(huge).save(tmp_path / "c.png", compress_level=1)
    shown = show("source", tmp_path / "c.png", tmp_path)
    width, height = embedded(shown.data).size
    assert (shown.width, shown.height) == (4200, 4200)
    assert 0.99 * MOST_PIXELS < width * height <= MOST_PIXELS
