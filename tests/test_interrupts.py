"""Signals end a program even where their exception is swallowed."""

import importlib
import os
import signal
import threading

import pytest

from keras_megan import cli
from keras_megan.interrupts import check_interrupts, heeding_signals

pytestmark = pytest.mark.skipif(os.name != "posix", reason="has other signals")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_whose_exception_is_swallowed_is_not_forgotten(number):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with heeding_signals():
            check_interrupts()
            with pytest.raises(KeyboardInterrupt):
                os.kill(os.getpid(), number)
                threading.Event().wait(5)  # the signal ends the wait
            with pytest.raises(KeyboardInterrupt):
                check_interrupts()
        with heeding_signals():
            check_interrupts()  # forgotten with the block
    finally:
        signal.signal(signal.SIGINT, before)


def test_ignored_signals_stay_ignored_and_handlers_come_back():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with heeding_signals():
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def test_other_threads_leave_the_handlers_alone():
    seen = []

    def work():
        with heeding_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(timeout=10)
    assert seen == [signal.getsignal(signal.SIGTERM)]


@pytest.mark.parametrize("moment", ["build_parser", "_run"])
def test_an_interrupt_at_any_moment_is_one_line_and_130(monkeypatch, capsys, moment):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    module = importlib.import_module("keras_megan.cli.main")
    monkeypatch.setattr(module, moment, interrupt)
    assert cli.main(["upscale", "a.mp4"]) == 130
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("megan: interrupted.")
