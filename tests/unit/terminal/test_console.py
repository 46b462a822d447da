"""Ctrl-C is seen even by work that runs where exceptions are swallowed."""

from __future__ import annotations

import os
import signal

import pytest

from napari_cxr3d.terminal import console


def test_ctrl_c_cancels_the_token_and_interrupts():
    before = signal.getsignal(signal.SIGINT)
    with console.interruptible() as token:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert token.cancelled
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_interrupt_that_a_finalizer_swallows_still_cancels():
    class Swallows:
        def __del__(self):
            os.kill(os.getpid(), signal.SIGINT)
            for _ in range(1000):  # the handler runs at the next bytecodes
                pass

    with console.interruptible() as token:
        Swallows()
        assert token.cancelled
