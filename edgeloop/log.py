"""Logging: key=value lines on standard error, configured by the command line and nowhere else."""

import logging
import sys
import time

# Warns at import, which transformers and PEFT do wherever it is installed, that a faster kernel for
# 4-bit inference is not: nothing here uses one.
NEEDLESS = "bitsandbytes.backends.cpu.ops"


class KeyValueFormatter(logging.Formatter):
    """`2026-11-23T03:00:00Z INFO finetune.train epoch=3 loss=0.41`, times in UTC."""

    def __init__(self) -> None:
        super().__init__(
            fmt="%(asctime)s %(levelname)s %(name)s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ"
        )
        self.converter = time.gmtime


def configure(verbose: bool = False) -> None:
    """Send log lines of INFO (DEBUG when verbose) and above to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(KeyValueFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in ("edgeloop", "finetune", "compress", "serve", "monitor"):
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)
    logging.getLogger(NEEDLESS).setLevel(logging.ERROR)
