"""What a page of ours has to be: one file that asks for nothing; nothing overlaps, every axis has a title."""

import re
from pathlib import Path

from tests.helpers.browser import open_browser

_N_DRAWN = """
document.readyState == 'complete' ? document.querySelectorAll('.js-plotly-plot:has(.main-svg)').length : 0
"""
# Of every figure: the texts that overlap, and the axes whose title names no unit, as one line each. Turned texts, whose
# boxes are larger than they, are left out; a searched value is named by its path, in whose unit it is configured.
_FAULTS = """
(() => {
  const faults = [];
  for (const plot of document.querySelectorAll('.js-plotly-plot')) {
    const selectors = '.xtitle, .ytitle, .xtick > text, .ytick > text, .legendtext, .annotation-text, .modebar';
    const texts = [...plot.querySelectorAll(selectors)].filter(element => {
      const turned = /rotate\\((?!0|-90)/.test(element.getAttribute('transform') || '');
      return !turned && element.getBoundingClientRect().width > 0;
    });
    for (let i = 0; i < texts.length; i++) for (let j = i + 1; j < texts.length; j++) {
      const [a, b] = [texts[i].getBoundingClientRect(), texts[j].getBoundingClientRect()];
      const width = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const height = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (width > 1 && height > 3) faults.push(`${texts[i].textContent} overlaps ${texts[j].textContent}`);
    }
    for (const [name, axis] of Object.entries(plot._fullLayout)) {
      if (!/^[xy]axis\\d*$/.test(name) || axis.visible === false) continue;
      const isShared = axis.matches || axis.showticklabels === false || axis.ticktext;
      if (!isShared && !(axis.title && /\\(.+\\)|^model\\.|^data\\./.test(axis.title.text || '')))
        faults.push(`${name} has the title ${axis.title && axis.title.text}`);
    }
  }
  return faults;
})()
"""


def without_plotly(text: str) -> str:
    """The page without plotly's own program, the one script of megabytes."""
    scripts = re.findall(r"<script[^>]*>.*?</script>", text, re.S)
    (program,) = [script for script in scripts if len(script) > 1_000_000]
    return text.replace(program, "")


def assert_needs_nothing(text: str) -> None:
    """Nothing in the page's text is loaded from elsewhere, and the browser is told to load nothing."""
    page = without_plotly(text)
    assert not re.findall(r"(?:src|href|action)\s*=|url\(|fetch\(|@import|<link|<iframe|<img", page)
    assert not re.findall(r"https?://", page)
    assert "default-src 'none'" in page.replace("&#39;", "'")


def assert_looks_right(text: str, n_figures: int, folder: Path) -> None:
    """In a browser, as wide as a screen and as narrow as a telephone."""
    assert text.count("plotly-graph-div") == n_figures
    path = folder / "a page.html"
    path.write_text(text, encoding="utf-8")
    profile = folder / "browser"
    profile.mkdir()
    with open_browser(profile) as browser:
        browser.watch_network()
        for width in (1400, 390):
            browser.resize(width, 1000)
            browser.open(path.as_uri())
            browser.wait_until(lambda: browser.evaluate(_N_DRAWN) == n_figures, "the figures are drawn", 120)
            assert browser.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), width
            assert browser.evaluate(_FAULTS) == [], width
        assert set(browser.requested) == {path.as_uri()}
