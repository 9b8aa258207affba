"""A page as a browser shows it after clicks: Chromium without a window, from Debian's package."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from system import HOW, asked, packages

#: follows links by their text or icon, one after the other, each as soon as it is there
CLICKS = """<script>
const clicks = {clicks};
function next() {{
  const links = [...document.querySelectorAll("a, button")];
  const link = links.find(x => x.textContent.trim() === clicks[0] || x.getAttribute("iconname") === clicks[0]);
  if (link) {{ link.click(); clicks.shift(); }}
  if (clicks.length) setTimeout(next, 200); else setTimeout(() => document.body.dataset.clicked = "all", 500);
}}
setTimeout(next, 200);
</script></body>"""


def chromium() -> str:
    """Path of Chromium, where there is one or one may be installed; elsewhere the test is skipped."""
    if shutil.which("chromium") is None and not asked():
        pytest.skip(f"NOT TESTED: the report in a browser: it installs Chromium; {HOW}")
    packages("chromium", names=("chromium",))
    return shutil.which("chromium") or pytest.fail("Chromium was installed and is not there")


def page_after(page: Path, *clicks: str) -> str:
    """What the body of `page` shows, as HTML without scripts, after a click on each link with that text or icon."""
    copy = page.with_name("clicked.html")
    html = page.read_text(encoding="utf-8")
    start, end = html.rsplit("</body>", 1)
    copy.write_text(start + CLICKS.format(clicks=list(clicks)) + end, encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
    home = {"HOME": str(page.parent), "XDG_CONFIG_HOME": str(page.parent)}
    done = subprocess.run(
        [chromium(), *options, copy.as_uri()], capture_output=True, text=True, timeout=180, env=os.environ | home
    )
    assert 'data-clicked="all"' in done.stdout, f"the report does not have all of {clicks}: {done.stderr[-2000:]}"
    shown = re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
    return shown[shown.index("<body") :]
