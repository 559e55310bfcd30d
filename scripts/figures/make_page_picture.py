"""Make docs/page.png and docs/page_phone.png: the page after its first example.

python scripts/figures/make_page_picture.py    (extra test, and Debian's package chromium)
"""

import shutil
import socket

from hydra import compose, initialize_config_dir
from PIL import Image

from vc_lightning.commands import app
from vc_lightning.common import resources

DOCS = resources.ROOT / "docs"
SIZES = {"page": (1280, 900), "page_phone": (390, 844)}  # pixels
COLOURS = 256  # of a picture: few enough for a small file


def main() -> None:
    """Serve the page with the shipped weights and take the screenshots."""
    from playwright.sync_api import sync_playwright

    from vc_lightning.demo import server
    from vc_lightning.demo.live import LiveLimits

    with initialize_config_dir(str(resources.CONF), version_base="1.3"):
        cfg = compose("app", ["voices.dir=none"])  # without the voices learned on this computer
    with socket.socket() as free:
        free.bind((cfg.host, 0))
        port = free.getsockname()[1]
    limits = {"max_waiting": cfg.max_waiting, "keep_minutes": cfg.keep_minutes}
    limits["examples"] = sorted(app.EXAMPLES.glob("*.wav"))
    service, live_limits = app.build_service(cfg), LiveLimits(**cfg.live)
    with (
        server.serving(service, live_limits, host=cfg.host, port=port, **limits) as url,
        sync_playwright() as driver,
    ):
        browser = driver.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        for name, (width, height) in SIZES.items():
            tab = browser.new_page(viewport={"width": width, "height": height})
            tab.goto(url)
            tab.get_by_role("button", name="his words, her voice").click()
            tab.locator("#result #duration").wait_for(timeout=180_000)
            tab.locator("#download").wait_for()
            tab.mouse.move(0, 0)
            tab.wait_for_timeout(2000)  # waveforms are drawn
            path = DOCS / f"{name}.png"
            tab.screenshot(path=path, full_page=True)
            Image.open(path).convert("RGB").quantize(COLOURS).save(path, optimize=True)
        browser.close()


if __name__ == "__main__":
    main()
