"""Log lines: one format, UTC, standard error, our packages louder than others."""

import logging
import os
import re
import time
from collections.abc import Iterator

import pytest

from edgeloop import log

PACKAGES = ("edgeloop", "finetune", "compress", "serve", "monitor")


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    """Leaves the loggers as they were."""
    loggers = [logging.getLogger(), *map(logging.getLogger, (*PACKAGES, log.NEEDLESS))]
    before = [(logger, logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, level, handlers in before:
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def far_from_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The machine's clock nine hours ahead of UTC."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Asia/Tokyo"
    time.tzset()
    yield
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.mark.usefixtures("far_from_utc")
def test_a_line_has_utc_time_level_logger_and_message() -> None:
    record = logging.LogRecord(
        "finetune.train", logging.INFO, __file__, 1, "epoch=%d loss=%.2f", (3, 0.41), None
    )
    record.created = 0.0
    line = log.KeyValueFormatter().format(record)
    assert line == "1970-01-01T00:00:00Z INFO finetune.train epoch=3 loss=0.41"


def test_lines_go_to_standard_error_only(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    logging.getLogger("serve.app").info("port=%d", 8080)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ INFO serve.app port=8080\n", captured.err)


@pytest.mark.parametrize("package", PACKAGES)
def test_verbose_lets_our_debug_lines_through(
    capsys: pytest.CaptureFixture[str], package: str
) -> None:
    log.configure()
    logging.getLogger(f"{package}.x").debug("quiet=1")
    log.configure(verbose=True)
    logging.getLogger(f"{package}.x").debug("loud=1")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["loud=1"]


def test_libraries_are_heard_from_warning_on(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(verbose=True)
    logging.getLogger("some.library").info("chatter=1")
    logging.getLogger("some.library").warning("trouble=1")
    assert [line.split()[-1] for line in capsys.readouterr().err.splitlines()] == ["trouble=1"]


def test_configuring_twice_writes_each_line_once(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    log.configure()
    logging.getLogger("edgeloop.loop").info("once=1")
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_a_needless_warning_of_bitsandbytes_is_not_shown(
    capsys: pytest.CaptureFixture[str],
) -> None:
    log.configure()
    logging.getLogger(log.NEEDLESS).warning("Failed to load CPU gemm_4bit_forward")
    logging.getLogger(log.NEEDLESS).error("a real one")
    err = capsys.readouterr().err
    assert "gemm_4bit" not in err
    assert "a real one" in err
