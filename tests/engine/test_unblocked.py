"""The pieces that keep the daemon from waiting: its line and its loop."""

from __future__ import annotations

import os
import socket
import time

from flowdeck.engine.daemon.saying import Saying
from flowdeck.engine.system.line import MOST_UNSENT_BYTES, Line
from flowdeck.engine.system.loop import Loop


def test_a_line_takes_what_nobody_reads_up_to_a_bound():
    """Sending returns at once, however little the other end reads; it all comes in order once that reads."""
    ours, theirs = (Line(sock) for sock in socket.socketpair())
    begun, sent = time.monotonic(), 0
    while ours.send({"number": sent, "text": "x" * 1000}):
        sent += 1
    assert time.monotonic() - begun < 10
    assert MOST_UNSENT_BYTES < ours.unsent_bytes < MOST_UNSENT_BYTES + 2000
    received = []
    while len(received) < sent:
        received += [message["number"] for message in theirs.receive()]
        assert ours.flush()
    assert received == list(range(sent))
    assert theirs.receive() == []
    assert ours.unsent_bytes == 0
    theirs.close()
    assert not ours.send({"to": "nobody"})
    ours.close()


def test_a_line_that_speaks_something_else_is_closed():
    """User code may write into any descriptor."""
    ours, theirs = socket.socketpair()
    line = Line(ours)
    theirs.sendall(b'{"say": "half')
    assert line.receive() == []
    theirs.sendall(b' and no end\n')
    assert line.receive() is None
    line.close()
    theirs.close()


def test_what_the_daemon_says_waits_for_no_reader():
    """A pager or a stopped terminal at the other end holds nothing up; what was left out is counted once it reads."""
    read_end, write_end = os.pipe()
    with open(write_end, "w", encoding="utf-8") as stream, open(read_end, encoding="utf-8") as reader:
        saying = Saying(stream, lambda: 0)
        begun = time.monotonic()
        for number in range(3000):
            saying(f"line {number} " + "ä" * (5000 if number % 100 == 0 else 50))
        assert time.monotonic() - begun < 10
        os.set_blocking(read_end, False)
        before = reader.read()
        saying("and on")
        after = reader.read().splitlines()
    assert before.splitlines()[1].endswith("line 1 " + "ä" * 50)
    assert " lines were not said: nobody read them" in after[-2]
    assert after[-1].endswith("and on")


def test_what_was_forgotten_in_a_round_is_not_called_in_it():
    """Also when another descriptor has got its number meanwhile."""
    troubles = []
    loop = Loop(lambda: None, troubles.append)
    pipes = [os.pipe() for _ in range(2)]
    called = []

    def first_wins(mine, other):
        def ready():
            called.append(mine)
            loop.forget(pipes[other][0])
            os.close(pipes[other][0])
            again = os.dup(pipes[mine][0])
            assert again == pipes[other][0]
            loop.watch(again, lambda: (called.append("again"), loop.stop()))
            loop.forget(pipes[mine][0])
        return ready

    for mine, other in ((0, 1), (1, 0)):
        os.write(pipes[mine][1], b"x")
        loop.watch(pipes[mine][0], first_wins(mine, other))
    loop.run()
    loop.close()
    assert troubles == []
    assert len(called) == 2
    assert called[1] == "again"
