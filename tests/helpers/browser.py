"""A page as a browser shows it after clicks: Chromium without a window, from Debian's package."""

import html
import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

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
        pytest.skip(f"NOT TESTED: pages in a browser: it installs Chromium; {HOW}")
    packages("chromium", names=("chromium",))
    return shutil.which("chromium") or pytest.fail("Chromium was installed and is not there")


#: runs an asynchronous function of the page's own, and leaves what it returns
ANSWER = """<script>
window.addEventListener("load", async () => {{
  const pause = (milliseconds = 50) => new Promise(done => setTimeout(done, milliseconds));
  let found;
  try {{ found = await (async () => {{ {script} }})(); }} catch (error) {{ found = {{error: String(error)}}; }}
  const holder = document.createElement("pre");
  holder.id = "found";
  holder.textContent = JSON.stringify(found);
  document.body.append(holder);
}});
</script></body>"""


def _opened(page: Path, anchor: str, *more: str) -> "subprocess.CompletedProcess[str]":
    """Chromium's own HTML of a page after thirty seconds of the page's clock, which do not take thirty seconds."""
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=30000", "--dump-dom", *more]
    home = {"HOME": str(page.parent), "XDG_CONFIG_HOME": str(page.parent)}
    line = [chromium(), *options, f"{page.as_uri()}{anchor}"]
    return subprocess.run(line, capture_output=True, text=True, timeout=180, env=os.environ | home)


def answer(page: Path, script: str, anchor: str = "", height: int = 1000) -> tuple[Any, list[str]]:
    """What the JavaScript `script` returns inside `page`, and what the page wrote on the console until then.

    `script` may await `pause(milliseconds)`. The window is `height` pixels high; `anchor` (#...) is that of the address.
    """
    copy = page.with_name(f"asked-{page.name}")
    start, end = page.read_text(encoding="utf-8").rsplit("</body>", 1)
    copy.write_text(start + ANSWER.format(script=script) + end, encoding="utf-8")
    done = _opened(copy, anchor, f"--window-size=1440,{height}", "--enable-logging=stderr")
    copy.unlink()
    found = re.findall(r'<pre id="found">(.*?)</pre>', done.stdout, flags=re.DOTALL)
    assert found, f"the script did not come to its end: {done.stderr[-2000:]}"
    return json.loads(html.unescape(found[-1])), [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def page_after(page: Path, *clicks: str) -> str:
    """What the body of `page` shows, as HTML without scripts, after a click on each link with that text or icon."""
    copy = page.with_name("clicked.html")
    html = page.read_text(encoding="utf-8")
    start, end = html.rsplit("</body>", 1)
    copy.write_text(start + CLICKS.format(clicks=list(clicks)) + end, encoding="utf-8")
    done = _opened(copy, "")
    assert 'data-clicked="all"' in done.stdout, f"the report does not have all of {clicks}: {done.stderr[-2000:]}"
    shown = re.sub(r"<script.*?</script>", "", done.stdout, flags=re.DOTALL)
    return shown[shown.index("<body") :]
