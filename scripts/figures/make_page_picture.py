"""Make docs/page.png and docs/page_phone.png: the page after its first example.

python scripts/figures/make_page_picture.py    (extra test, and Debian's package chromium)
"""

import shutil
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from PIL import Image

from vc_lightning.commands import serve
from vc_lightning.common import resources

if TYPE_CHECKING:
    from playwright.sync_api import Playwright

DOCS = resources.ROOT / "docs"
SIZES = {"page": (1280, 900), "page_phone": (390, 844)}  # pixels
COLOURS = 256  # of a picture: few enough for a small file


def main() -> None:
    """Serve the page with the shipped weights and take the screenshots."""
    from playwright.sync_api import sync_playwright

    from vc_lightning.service import server
    from vc_lightning.service.page.mount import mounted

    with initialize_config_dir(str(resources.CONF), version_base="1.3"):
        cfg = compose("app", ["voices.dir=none"])  # without the voices learned on this computer
    with (
        tempfile.TemporaryDirectory() as folder,
        server.bind(cfg.host, 0) as listener,
        sync_playwright() as driver,
    ):
        api = serve.build_api(cfg, Path(folder))
        with mounted(api, cfg.keep_minutes, sorted(serve.EXAMPLES.glob("*.wav"))):
            made = server.Server(api, cfg.stop_seconds)
            thread = threading.Thread(target=made.run, kwargs={"sockets": [listener]})
            thread.start()
            take_pictures(driver, server.address_of(listener))
            made.should_exit = True
            thread.join()


def take_pictures(driver: "Playwright", url: str) -> None:
    """Convert the first example in every size of the window, and save the pictures.

    Args:
        driver: Starts the browser.
        url: Address of the page.
    """
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
