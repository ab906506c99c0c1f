"""Processes that are forked from one that uses hotad: they have none of its threads."""

import os
import signal

import pytest

import hotad
from test_inspector import MODEL, noise

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


def in_a_fork(work):
    """What `work` returns in a forked process, as text."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.alarm(60)  # ends a child that waits for threads which are not there
            said = str(work())
        except BaseException as error:  # noqa: BLE001: told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as said:
        return said.read()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("threads", [None, 2])
def test_a_fork_is_told_that_it_has_no_threads(threads):
    frame = noise(64, 64)
    inspector = hotad.Inspector(MODEL, device="cpu", threads=threads)
    score = inspector.inspect(frame).score
    assert in_a_fork(lambda: inspector.inspect(frame).score).startswith("HotadError: cpu: process ")
    # With threads of its own it can.
    assert in_a_fork(lambda: hotad.Inspector(MODEL, device="cpu", threads=1).inspect(frame).score) == str(score)
    assert inspector.inspect(frame).score == score


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_fork_opens_none_on_threads_that_it_does_not_have():
    hotad.Inspector(MODEL, device="cpu").inspect(noise(64, 64))
    said = in_a_fork(lambda: hotad.Inspector(MODEL, device="cpu"))
    assert said.startswith("HotadError: cpu: process ") and "spawn" in said
    said = in_a_fork(lambda: hotad.evaluate(MODEL, MODEL.parent))
    assert said.startswith("HotadError: cpu: process "), said
