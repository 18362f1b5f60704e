"""What the hub logs never stops it: not a full disk, and not somebody who has stopped to read."""

from __future__ import annotations

import io
import os
import threading

from lalert.cli.serving import Forgiving


def test_a_pipe_that_nobody_reads_loses_lines_and_holds_up_nobody() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w", encoding="utf-8") as stream, os.fdopen(reader, "rb", buffering=0) as other:
        log = Forgiving(stream)
        done = threading.Event()

        def say() -> None:
            for _ in range(200):
                log.write("名" * 1_500 + "\n")
            done.set()

        threading.Thread(target=say, daemon=True).start()
        assert done.wait(5), "the writer waits for somebody to read"
        assert log.write("lost\n") == 0
        while len(other.read(65_536)) == 65_536:
            pass
        assert log.write("heard again\n") == len("heard again\n")
        assert other.read(65_536).endswith(b"heard again\n")


def test_a_stream_without_a_descriptor_gets_everything() -> None:
    stream = io.StringIO()
    log = Forgiving(stream)
    assert log.write("x" * 2_500) == 2_500
    log.flush()
    assert stream.getvalue() == "x" * 2_500


def test_a_disk_without_room_raises_nothing() -> None:
    with open("/dev/full", "w", encoding="utf-8", buffering=1) as stream:  # noqa: PTH123  # a device
        log = Forgiving(stream)
        assert log.write("lost\n") == 0
        log.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
