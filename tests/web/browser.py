"""A headless Chromium, driven through chromedriver by the WebDriver standard."""

from __future__ import annotations

import base64
import http.client
import json
import os
import shutil
import subprocess
import time
from typing import Any

_OPTIONS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    # The name of a foreign page, and one that is bound to this machine.
    "--host-resolver-rules=MAP evil.test 127.0.0.1, MAP rebound.test 127.0.0.1",
)
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
KEYS = {"Enter": "\ue007", "Escape": "\ue00c", "Tab": "\ue004"}


def missing() -> str:
    """What there is not to drive a browser with; "" if all is there."""
    names = [name for name in ("chromium", "chromedriver") if shutil.which(name) is None]
    told = f"{' and '.join(names)} is not installed (Debian: chromium, chromium-driver)"
    return told if names else ""


class Browser:
    """One window. Its methods fail as chromedriver says."""

    def __init__(self, folder: str) -> None:
        self._process = subprocess.Popen(
            ["chromedriver", "--port=0"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, "HOME": folder},
        )
        assert self._process.stdout is not None
        line = next(told for told in self._process.stdout if "successfully on port" in told)
        self._port = int(line.strip().rstrip(".").rpartition(" ")[2])
        options = {"args": [*_OPTIONS, f"--user-data-dir={folder}/profile"]}
        wanted = {
            "alwaysMatch": {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        }
        self._session = self._ask("POST", "/session", {"capabilities": wanted})["sessionId"]

    def close(self) -> None:
        """End it."""
        try:
            self._call("DELETE", "")
        finally:
            self._process.kill()
            self._process.wait()
            self._process.stdout.close()

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        asked = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        try:
            asked.request(method, path, None if body is None else json.dumps(body))
            value = json.loads(asked.getresponse().read())["value"]
        finally:
            asked.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{value['error']}: {value['message'].splitlines()[0]}")
        return value

    def _call(self, method: str, path: str, body: object = None) -> Any:
        return self._ask(method, f"/session/{self._session}{path}", body)

    def open(self, url: str) -> None:
        """Go to an address."""
        self._call("POST", "/url", {"url": url})

    def run(self, script: str, *given: object) -> Any:
        """What a script's body returns."""
        return self._call("POST", "/execute/sync", {"script": script, "args": list(given)})

    def later(self, script: str, *given: object) -> Any:
        """What a script's body gives the function that is its last argument."""
        return self._call("POST", "/execute/async", {"script": script, "args": list(given)})

    def text(self, selector: str) -> str:
        """The text of an element; "" if there is none."""
        return self.run("return document.querySelector(arguments[0])?.innerText || ''", selector)

    def click(self, selector: str) -> None:
        """Click on the first element that there is."""
        found = self._call("POST", "/element", {"using": "css selector", "value": selector})
        self._call("POST", f"/element/{found[_ELEMENT]}/click", {})

    def press(self, *keys: str) -> None:
        """Type keys, or texts, one after the other."""
        signs = [sign for key in keys for sign in ([KEYS[key]] if key in KEYS else key)]
        actions = [{"type": kind, "value": sign} for sign in signs for kind in ("keyDown", "keyUp")]
        keyboard = {"type": "key", "id": "keyboard", "actions": actions}
        self._call("POST", "/actions", {"actions": [keyboard]})

    def size(self, wide: int, high: int) -> None:
        """Make the page so large, as a device of that size would have it."""
        metrics = {"width": wide, "height": high, "deviceScaleFactor": 1, "mobile": False}
        self.devtools("Emulation.setDeviceMetricsOverride", metrics)

    def dark(self, on: bool) -> None:
        """Prefer dark colours, or light ones."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.devtools("Emulation.setEmulatedMedia", {"features": [feature]})

    def devtools(self, name: str, given: object) -> Any:
        """A command of Chromium's own."""
        return self._call("POST", "/goog/cdp/execute", {"cmd": name, "params": given})

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self._call("GET", "/screenshot"))

    def complaints(self) -> list[str]:
        """What the browser logged since it was asked last: errors and refusals of the policy."""
        return [entry["message"] for entry in self._call("POST", "/se/log", {"type": "browser"})]

    def until(self, script: str, *given: object, timeout: float = 20.0) -> Any:
        """What a script's body returns, once it is true."""
        deadline = time.monotonic() + timeout
        while not (found := self.run(script, *given)):
            assert time.monotonic() < deadline, f"still waiting for {script}: {self.text('body')}"
            time.sleep(0.03)
        return found
