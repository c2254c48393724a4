"""Runs side by side, and which differences between them are real.

pocketvision compare runs/first runs/second
"""

from omegaconf import DictConfig
from pocketvision.tools.comparing.evaluations import compare_evaluations, lines, load_evaluations, write
from pocketvision.tools.config.command import command
from pocketvision.tools.system.console import log


def compare(config: DictConfig) -> dict:
    """Compare evaluations: the first with each other one."""
    evaluations = load_evaluations(list(config.runs))
    found = compare_evaluations(evaluations, samples=config.samples, seed=config.seed)
    log.info("%s", "\n".join(lines(found)))
    if config.output:
        write(found, config.output)
        log.info("written: %s", config.output)
    return found


main = command("compare", compare, positional="runs")

if __name__ == "__main__":
    main()
