"""ComfyUI's graph editor in headless Chromium."""

import json
import urllib.request
from collections.abc import Callable
from pathlib import Path
from shutil import which

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = which("chromium") or which("google-chrome"), which("chromedriver")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1800,1100",
)
SECONDS = 120

# What Nodes 2.0 cover on the page, titles included, in the graph's own measure; null until all are there and have stood still.
ON_THE_PAGE = """const drawn = [...document.querySelectorAll('[data-node-id]')].map(e => {
    const box = e.getBoundingClientRect(), node = app.graph.getNodeById(e.dataset.nodeId), scale = app.canvas.ds.scale;
    return [node?.type, [node?.pos[0], node?.pos[1] - 30, box.width / scale, box.height / scale].map(Math.round)]})
const before = window.drawnBefore; window.drawnBefore = JSON.stringify(drawn)
return drawn.length === app.graph._nodes.length && before === window.drawnBefore ? drawn : null"""

# What a node covers on the canvas, its title included, and what the editor knows of its type.
NODES = """return app.graph._nodes.map(n => ({
    type: n.type, known: n.type in LiteGraph.registered_node_types, errors: !!n.has_errors,
    box: [...n.getBounding()], links: (n.inputs || []).filter(i => i.link != null).length}))"""


def needs_browser():
    """Skip where there is no Chromium; the API format of the same workflows is tested without one."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("needs chromium and chromedriver on the PATH (Debian: apt install chromium chromium-driver)")


class Editor:
    """One browser window with the graph editor of a running server."""

    def __init__(self, port: int, profile: Path):
        settings = json.dumps({"Comfy.TutorialCompleted": True}).encode()
        address = f"http://127.0.0.1:{port}"
        request = urllib.request.Request(f"{address}/settings", settings, {"Content-Type": "application/json"})
        urllib.request.urlopen(request).close()
        options = Options()
        options.binary_location = CHROMIUM
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER))
        self.driver.set_script_timeout(SECONDS)
        self.driver.get(address)
        self.wait(lambda: self.js("return !!(window.app && app.vueAppReady && app.graph && app.canvas)"))

    def js(self, code: str, *arguments):
        """Run JavaScript and return what it returns."""
        return self.driver.execute_script(code, *arguments)

    def wait(self, condition: Callable[[], object]):
        """Return what a condition gives once that is true."""
        return WebDriverWait(self.driver, SECONDS, poll_frequency=0.1).until(lambda _: condition())

    def open(self, workflow: dict) -> list[dict]:
        """Open a workflow as from a file; return its nodes as the editor sees them."""
        code = "app.loadGraphData(arguments[0]).then(() => requestAnimationFrame(() => arguments[1](true)))"
        self.driver.execute_async_script(code, workflow)
        return self.js(NODES)

    def as_prompt(self) -> dict:
        """Return the graph as the editor would queue it."""
        return self.driver.execute_async_script("app.graphToPrompt().then(p => arguments[0](p.output))")

    def set(self, widget: str, value) -> None:
        """Set a widget on every node that has it, as a user would."""
        code = """for (const n of app.graph._nodes) for (const w of n.widgets || [])
            if (w.name === arguments[0]) { w.value = arguments[1]; w.callback?.(w.value) }"""
        self.js(code, widget, value)

    def press_run(self) -> None:
        """Click the Run button."""
        button = self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, "[data-testid='queue-button']"))
        button[0].click()

    def shown(self, node_type: str):
        """Return what the editor shows on the first node of a type after a run, or None."""
        code = """const n = app.graph._nodes.find(n => n.type === arguments[0]); return app.nodeOutputs[n.id] || null"""
        return self.js(code, node_type)

    def warnings(self) -> list[str]:
        """Return the text of every dialog and toast on the page."""
        code = """return [...document.querySelectorAll('[role=dialog], [role=alert], .p-toast-message')]
            .map(e => e.innerText.trim()).filter(t => t)"""
        return self.js(code)

    def use_nodes_2_0(self, wanted: bool) -> None:
        """Choose between nodes on the canvas and nodes as parts of the page, as the editor's setting does."""
        code = "app.extensionManager.setting.set('Comfy.VueNodes.Enabled', arguments[0]).then(() => arguments[1](true))"
        self.driver.execute_async_script(code, wanted)

    def nodes_on_the_page(self) -> list[tuple[str, list[int]]] | None:
        """Return each of Nodes 2.0 with its box (x, y, width, height), or None while they are drawn."""
        return self.js(ON_THE_PAGE)

    def groups(self) -> list[tuple[str, list[int]]]:
        """Return each group's title and box."""
        return self.js("return app.graph._groups.map(g => [g.title, [...g._bounding]])")

    def close(self) -> None:
        """End the browser."""
        self.driver.quit()
