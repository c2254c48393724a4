"""One HTML page of one or several evaluated runs.

pocketvision report runs/first runs/second
"""

from pathlib import Path

from omegaconf import DictConfig
from pocketvision.tools.config.command import command
from pocketvision.tools.reporting.writing import write_page
from pocketvision.tools.system.console import log


def report(config: DictConfig) -> Path:
    """The page's path."""
    page = write_page(list(config.runs), Path(config.output))
    log.info("written: %s (%.1f MB)", page, page.stat().st_size / 1e6)
    return page


main = command("report", report, positional="runs")

if __name__ == "__main__":
    main()
