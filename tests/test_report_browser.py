"""Reports in a real browser: that the script works, that nothing of a corpus runs, phone, keyboard, print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from lmcollapse.report import report
from tests.browser import CHROMIUM, Browser, Page, browser
from tests.reported import STEERING, grid, hostile

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: install it to test reports in a browser")

LINES = "document.querySelectorAll('#chart .line').length"
SAID = "document.querySelector('#chart [role=status]').textContent"


@pytest.fixture(scope="module")
def opened() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    return report(grid(folder), folder / "report.html")


def sound(page: Page) -> None:
    """Its script came to the end, nothing was refused or failed, and nothing was asked of a network."""
    assert page.value("document.documentElement.dataset.ready") == "1"
    assert page.value("document.documentElement.dataset.error") is None
    assert page.complaints() == []
    assert all(address.startswith(("file:", "data:")) for address in page.requests())


def test_the_address_says_what_is_shown(opened: Browser, file: Path) -> None:
    page = opened.open(file, "#measure=distinct_2&log=1&hide=1&document=3")
    sound(page)
    assert page.value("document.querySelector('#measure').selectedOptions[0].textContent") == "distinct-2"
    assert page.value("document.querySelector('#log').getAttribute('aria-pressed')") == "true"
    assert page.value("document.querySelector('#values').caption.textContent") == "distinct-2"
    assert page.value("[...document.querySelectorAll('#values thead bdi')].map(e => e.textContent)") == [
        "replace",
        "mix human_fraction=0.1",
    ]
    assert page.value("[...document.querySelectorAll('.document')].findIndex(e => !e.hidden)") == 2
    page.value("location.hash = 'training'")  # a link within the page leaves all that as it is
    assert page.value("document.querySelector('#values').caption.textContent") == "distinct-2"
    page.close()


def test_conditions_and_axes_are_toggled(opened: Browser, file: Path) -> None:
    page = opened.open(file)
    sound(page)
    assert page.value(LINES) == 3
    page.value("document.querySelector('.toggle').click()")
    assert page.value(LINES) == 2 and "hide=0" in page.value("location.hash")
    page.value("document.querySelector('.toggle').click()")
    assert page.value(LINES) == 3 and "hide" not in page.value("location.hash")
    before = page.value("document.querySelector('#chart .line').getAttribute('d')")
    page.value("document.querySelector('#log').click()")
    assert page.value("document.querySelector('#chart .line').getAttribute('d')") != before
    assert "log=1" in page.value("location.hash")
    page.value("const s = document.querySelector('#measure'); s.value = 2; s.dispatchEvent(new Event('change'))")
    assert page.value("document.querySelector('#chart-caption').textContent") == "tail coverage"
    assert (
        page.value("document.querySelector('#difference-caption').textContent") == "tail coverage, less that of replace"
    )
    for toggle in range(3):
        page.value(f"document.querySelectorAll('.toggle')[{toggle}].click()")
    assert page.value("document.querySelector('#chart').textContent.includes('no condition is shown')")
    sound(page)
    page.close()


def test_the_keyboard_goes_from_value_to_value(opened: Browser, file: Path) -> None:
    page = opened.open(file, "#measure=tail_coverage")
    page.value("[...document.querySelectorAll('.toggle')].at(-1).focus()")
    page.press("Space")
    assert "hide=2" in page.value("location.hash")
    page.press("Tab")
    assert page.value("document.activeElement.getAttribute('aria-roledescription')") == "chart"
    assert page.value(SAID).startswith("replace, mean of 3 seeds, generation 0: ")
    assert page.value("getComputedStyle(document.activeElement).outlineStyle") != "none"
    page.press("ArrowRight")
    first = page.value(SAID)
    assert first.startswith("replace, mean of 3 seeds, generation 1: ") and "[" in first
    measure = page.value(
        "JSON.parse(document.getElementById('data').textContent).measures.find(m => m.name === 'tail_coverage')"
    )
    value, low, high = (column[1] for column in measure["means"][0])
    shown = [float(part.strip("[], ")) for part in first.rpartition(": ")[2].split()]
    assert shown == pytest.approx([value, low, high], rel=1e-3)
    page.press("ArrowDown")
    assert page.value(SAID).startswith("accumulate, ") and "generation 1" in page.value(SAID)
    page.press("Escape")
    assert page.value("document.querySelector('#chart .tip').hidden")
    sound(page)
    page.close()


def test_the_pointer_shows_the_nearest_value(opened: Browser, file: Path) -> None:
    page = opened.open(file)
    box = page.value(
        "(() => { const marker = [...document.querySelectorAll('#chart .marker')].at(-1);"
        "marker.scrollIntoView({block: 'center'}); const b = marker.getBoundingClientRect();"
        "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
    )
    page.move(*box)
    assert page.value("!document.querySelector('#chart .tip').hidden")
    tip = page.value("document.querySelector('#chart .tip').textContent")
    assert tip.startswith("mix human_fraction=0.1, ") and "generation 2: " in tip
    page.close()


def test_nothing_of_a_hostile_run_runs_or_leaves_its_place(opened: Browser, tmp_path: Path) -> None:
    file = report([hostile(tmp_path)], tmp_path / "report.html")
    for width in (1280, 390):
        page = opened.open(file, width=width)
        sound(page)
        assert page.value("document.documentElement.dataset.owned") is None
        assert page.value("document.getElementById('owned')") is None
        assert page.value("document.querySelectorAll('script, img, h1').length") == 3
        shown = page.value("document.querySelector('#texts').textContent")
        assert "<script>document.documentElement" in shown and "⟨U+202E⟩gnirts" in shown
        assert page.value(f"/{STEERING}/.test(document.documentElement.outerHTML)") is False
        assert page.value("document.scrollingElement.scrollWidth <= innerWidth")
        # every measure, the one with the hostile name among them, is drawn and put into the tables
        count = page.value("document.querySelector('#measure').options.length")
        for measure in range(count):
            page.value(
                f"{{const s = document.querySelector('#measure'); s.value = {measure};"
                "s.dispatchEvent(new Event('change'))}"
            )
            assert page.value(f"/{STEERING}/.test(document.querySelector('#curves').outerHTML)") is False
        assert page.value("document.querySelector('#owned')") is None
        page.value("location.hash = '#measure=%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E&hide=9,-1,x&document=99&log=2'")
        assert page.value("document.querySelectorAll('img').length") == 0
        sound(page)
        page.close()


def test_it_fits_a_phone(opened: Browser, file: Path) -> None:
    page = opened.open(file, width=390, height=844)
    sound(page)
    page.value("document.querySelectorAll('details').forEach(e => { e.open = true; })")
    assert page.value("[document.scrollingElement.scrollWidth, innerWidth]") == [390, 390]
    wide = page.value(
        "[...document.querySelectorAll('button, select, svg.chart, figure')]"
        ".filter(e => e.getBoundingClientRect().right > 391).map(e => e.outerHTML.slice(0, 80))"
    )
    assert wide == []
    assert page.value("document.querySelector('#chart svg').viewBox.baseVal.width") < 400  # its type is not shrunk
    page.close()


def test_it_prints_without_controls_and_with_everything_open(opened: Browser, file: Path, tmp_path: Path) -> None:
    page = opened.open(file)
    page.value(
        "addEventListener('beforeprint', () => {"
        "window.opened = [...document.querySelectorAll('details.printed')].every(e => e.open); })"
    )
    page.printed(tmp_path / "page.pdf")
    assert (tmp_path / "page.pdf").read_bytes().startswith(b"%PDF-")
    assert page.value("window.opened") is True
    page.call("Emulation.setEmulatedMedia", media="print")
    for part in ("nav", ".controls", ".toggles", ".copy", "#configuration details"):
        assert page.value(f"getComputedStyle(document.querySelector({json.dumps(part)})).display") == "none", part
    assert page.value("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    sound(page)
    page.close()


def test_it_is_whole_without_a_script(opened: Browser, file: Path) -> None:
    page = opened.open(file, script=False)
    assert page.value("document.documentElement.dataset.ready") is None
    assert page.value("document.querySelectorAll('#chart svg .line').length") == 3
    assert page.value("document.querySelectorAll('#values tbody tr').length") == 3
    assert page.value("[...document.querySelectorAll('.document')].every(e => e.getBoundingClientRect().height > 0)")
    assert page.value("getComputedStyle(document.querySelector('.controls')).display") == "none"
    assert page.complaints() == []
    page.close()
