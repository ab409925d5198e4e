"""Makes the pictures of the page that the README shows: `python -m tests.web.page_pictures`.

They are of a real session in a real Chromium, so they are made on request only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile

from tests.pictures import DOCS, workshop
from tests.web.browser import Browser, missing

_MORE = "\n".join(
    [
        *(
            json.dumps({"id": f"shard-{n:02}", "command": command, "tags": ["shards"], **more})
            for n, command in enumerate(["sleep 0.2; echo done"] * 14 + ["sleep 1; exit 7"] * 3)
            for more in ({"max_retries": 0} if "exit" in command else {},)
        ),
        *(
            json.dumps({"id": f"train-{n}", "command": f"./train --seed {n}", "delay": 3600 * n})
            for n in (1, 2, 3)
        ),
    ]
)


def main(folder: str = DOCS) -> int:
    """Make page.png, which is light, and page-job.png, dark and with a job's output."""
    if lacking := missing():
        sys.stderr.write(f"{lacking}\n")
        return 1
    with workshop() as env, tempfile.TemporaryDirectory() as home:
        env = {**os.environ, **env, "XDG_STATE_HOME": home}
        argv = [sys.executable, "-m", "queuectl"]
        subprocess.run(
            [*argv, "-q", "enqueue", "--file", "-"],
            input=_MORE.encode(),
            env=env,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        for words in ("worker scale 4", "wait shard-13 shard-16"):
            subprocess.run([*argv, *words.split()], env=env, capture_output=True)
        served = subprocess.Popen(
            [*argv, "serve", "--port", "0", "--allow-root"],
            env=env,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert served.stdout is not None
        found = next(re.search(r"http://\S+#token=\S+", line) for line in served.stdout)
        browser = Browser(home)
        try:
            for name, job, dark in (
                ("page.png", "", False),
                ("page-job.png", "?job=shot-12", True),
            ):
                _take(browser, str(found and found[0]), job, dark, os.path.join(folder, name))
        finally:
            browser.close()
            served.terminate()
            served.wait()
            served.stdout.close()
    return 0


def _take(browser: Browser, link: str, job: str, dark: bool, path: str) -> None:
    browser.open("about:blank")
    browser.dark(dark)
    browser.size(1280, 800)
    browser.open(link.replace("#", f"{job}#"))
    browser.until("return document.querySelector('#live').innerText === 'live'")
    browser.until("return document.querySelectorAll('#rows tr').length > 10")
    if job:
        browser.until("return document.querySelector('#drawer').innerText.includes('frame 99')")
    with open(path, "wb") as file:
        file.write(browser.picture())


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
