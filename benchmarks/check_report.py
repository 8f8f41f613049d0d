#!/usr/bin/env python3
"""Opens a benchmark report in a headless Chromium and checks what a reader would meet.

usage: check_report.py REPORT.html [--shots DIR]

At 360, 768 and 1280 px, light and dark: nothing on the console, no request but for the file itself, no scrolling
sideways, no text below 12 px (text in drawings as it is shown), every drawing visible, and a contrast of at least 4.5 between text
and its ground. Then on paper: light, with every command open. Needs selenium, chromium and chromium-driver.
--shots keeps a picture of each page. Prints a line per check; status 1 if one fails.
"""
import argparse
import base64
import json
import pathlib
import sys

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

SIZES = [(360, 800), (768, 1024), (1280, 900)]
LEAST_TEXT = 12
LEAST_CONTRAST = 4.5
TALLEST_SHOT = 16000  # of a picture that Chromium makes

# Every text that is shown: its size on the screen, its colour, and what lies under it.
TEXTS = """
const rgb = colour => (colour.match(/[\\d.]+/g) || []).map(Number);
const shown = element => {
    const box = element.getBoundingClientRect();
    const style = getComputedStyle(element);
    return box.width > 1 && box.height > 1 && style.visibility !== 'hidden' && element.checkVisibility();
};
const ground = element => {
    for (let at = element; at; at = at.parentElement) {
        const colour = rgb(getComputedStyle(at).backgroundColor);
        if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
};
const found = [];
const add = (element, style, words, scale) => found.push({
    words: words.trim().slice(0, 40), size: parseFloat(style.fontSize) * scale,
    colour: rgb(element instanceof SVGElement ? style.fill : style.color), ground: ground(element)});
for (const element of document.querySelectorAll('body *')) {
    if (element.closest('title, desc') || !shown(element)) continue;
    const own = [...element.childNodes].filter(node => node.nodeType === 3).map(node => node.data).join('');
    let scale = 1;
    if (element instanceof SVGElement) {
        const matrix = element.getScreenCTM && element.getScreenCTM();
        scale = matrix ? Math.hypot(matrix.c, matrix.d) : 1;
    }
    if (own.trim()) add(element, getComputedStyle(element), own, scale);
    const before = getComputedStyle(element, '::before');
    if (before.content !== 'none' && before.content.length > 2) add(element, before, before.content, 1);
}
return found;
"""

# Drawings that nobody sees, and text of drawings that leaves its drawing.
DRAWINGS = """
const wrong = [];
for (const svg of document.querySelectorAll('svg')) {
    const frame = svg.getBoundingClientRect();
    const name = svg.querySelector('title')?.textContent || svg.getAttribute('class');
    if (frame.width < 10 || frame.height < 10 || !svg.checkVisibility()) wrong.push(name + ': no box');
    for (const text of svg.querySelectorAll('text')) {
        const box = text.getBoundingClientRect();
        if (box.left < frame.left - 1 || box.right > frame.right + 1 || box.top < frame.top - 1
            || box.bottom > frame.bottom + 1) wrong.push(name + ': "' + text.textContent + '" is cut');
    }
    const boxes = [...svg.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
    for (let i = 0; i < boxes.length; i++) for (let j = i + 1; j < boxes.length; j++) {
        const [a, b] = [boxes[i][1], boxes[j][1]];
        const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (across > 1 && down > 4) wrong.push(name + ': "' + boxes[i][0] + '" lies on "' + boxes[j][0] + '"');
    }
}
return wrong;
"""


def luminance(colour):
    parts = [value / 255 for value in colour[:3]]
    parts = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in parts]
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2]


def contrast(text):
    """By WCAG 2.2, 1.4.3; a text that lets its ground through is mixed with it first."""
    colour, ground = text["colour"], text["ground"]
    if len(colour) < 3:
        return 0
    if len(colour) > 3:
        colour = [value * colour[3] + under * (1 - colour[3]) for value, under in zip(colour, ground)]
    light, dark = sorted([luminance(colour), luminance(ground)], reverse=True)
    return (light + 0.05) / (dark + 0.05)


class Checks:
    def __init__(self):
        self.passed = self.failed = 0

    def check(self, holds, where, what, detail=""):
        self.passed += holds
        self.failed += not holds
        print(f"{'ok  ' if holds else 'FAIL'} {where}: {what}{': ' + detail if detail and not holds else ''}")


def browser():
    options = Options()
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-dev-shm-usage"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    for driver in ("/usr/bin/chromedriver", None):
        if driver is None or pathlib.Path(driver).exists():
            return webdriver.Chrome(options=options, service=Service(driver) if driver else Service())


def requests_of(driver):
    """Addresses asked for since the last call, the browser's own start page aside."""
    addresses = []
    for entry in driver.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            addresses.append(message["params"]["request"]["url"])
    return addresses


def check_page(driver, checks, address, width, height, scheme, shots):
    where = f"{width} px, {scheme}"
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "media": "screen", "features": [{"name": "prefers-color-scheme", "value": scheme}]})
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})
    driver.get_log("browser"), requests_of(driver)
    driver.get(address)
    # Closed commands are read as well.
    driver.execute_script("document.querySelectorAll('details').forEach(one => one.open = true)")
    messages = [entry["message"] for entry in driver.get_log("browser")]
    checks.check(not messages, where, "nothing on the console", "; ".join(messages[:3]))
    others = [one for one in requests_of(driver) if one.split("#")[0] != address and not one.startswith("data:")]
    checks.check(not others, where, "no request but for the file", ", ".join(others[:3]))
    inner, wide = driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    checks.check(inner == width and wide <= inner, where, "no scrolling sideways", f"{wide} px in {inner}")
    texts = driver.execute_script(TEXTS)
    checks.check(len(texts) > 5, where, "there is text to read", f"{len(texts)} pieces")
    small = [text for text in texts if text["size"] < LEAST_TEXT - 0.01]
    checks.check(not small, where, f"no text below {LEAST_TEXT} px",
                 ", ".join(f"'{text['words']}' {text['size']:.1f}" for text in small[:3]))
    faint = [text for text in texts if contrast(text) < LEAST_CONTRAST]
    checks.check(not faint, where, f"contrast of text at least {LEAST_CONTRAST}",
                 ", ".join(f"'{text['words']}' {contrast(text):.2f}" for text in faint[:3]))
    wrong = driver.execute_script(DRAWINGS)
    checks.check(not wrong, where, "every drawing is visible, its text whole and apart", "; ".join(wrong[:3]))
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    checks.check((luminance(ground) < 0.2) == (scheme == "dark"), where, f"the page is {scheme}", str(ground))
    driver.execute_script("document.querySelectorAll('details').forEach(one => one.open = false)")
    if shots:
        tall = driver.execute_script("return document.documentElement.scrollHeight")
        picture = driver.execute_cdp_cmd("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": {
            "x": 0, "y": 0, "width": width, "height": min(tall, TALLEST_SHOT), "scale": 1}})
        (shots / f"{width}-{scheme}.png").write_bytes(base64.b64decode(picture["data"]))


def check_print(driver, checks, address, shots):
    """On paper, for a reader whose screen is dark."""
    where = "paper"
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {
        "width": 690, "height": 980, "deviceScaleFactor": 1, "mobile": False})
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {
        "media": "print", "features": [{"name": "prefers-color-scheme", "value": "dark"}]})
    driver.get(address)
    ground = driver.execute_script("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    checks.check(luminance(ground) > 0.9, where, "light whatever the screen asks for", str(ground))
    closed = driver.execute_script(
        "return [...document.querySelectorAll('details pre')].filter(one => one.getBoundingClientRect().height < 10).length")
    checks.check(closed == 0, where, "every command is open", f"{closed} are not")
    inner, wide = driver.execute_script("return [innerWidth, document.documentElement.scrollWidth]")
    checks.check(wide <= inner, where, "nothing beyond the edge", f"{wide} px in {inner}")
    wrong = driver.execute_script(DRAWINGS)
    checks.check(not wrong, where, "every drawing is visible, its text whole and apart", "; ".join(wrong[:3]))
    pages = driver.execute_cdp_cmd("Page.printToPDF", {"printBackground": True, "preferCSSPageSize": True})["data"]
    checks.check(len(pages) > 1000, where, "prints")
    if shots:
        (shots / "paper.pdf").write_bytes(base64.b64decode(pages))


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=pathlib.Path)
    parser.add_argument("--shots", type=pathlib.Path, metavar="DIR")
    arguments = parser.parse_args()
    if not arguments.report.is_file():
        sys.exit(f"{arguments.report}: there is no such file")
    if arguments.shots:
        arguments.shots.mkdir(parents=True, exist_ok=True)
    address = arguments.report.resolve().as_uri()
    checks = Checks()
    driver = browser()
    try:
        driver.execute_cdp_cmd("Network.enable", {})
        for width, height in SIZES:
            for scheme in ("light", "dark"):
                check_page(driver, checks, address, width, height, scheme, arguments.shots)
        check_print(driver, checks, address, arguments.shots)
    finally:
        driver.quit()
    print(f"{checks.passed} passed, {checks.failed} failed")
    sys.exit(1 if checks.failed else 0)


if __name__ == "__main__":
    main()
