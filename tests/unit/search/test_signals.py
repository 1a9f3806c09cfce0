"""What a signal makes a call say, wherever it comes."""

import fcntl
import signal
import struct
import subprocess
import sys
import termios
import time

import pytest

TALKS = """
from search.machine.standard_streams import prepare_streams
from search.workers.display import PlainDisplay
from search.workers.signals import Signals
prepare_streams()
display = PlainDisplay(10)
signals = Signals(display.announce)
with signals.installed():
    print("begun", flush=True)
    while not signals.exit_status:
        display.announce("trial 1 complete 0.1234 in 1.0 s")
display.announce("the end")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks at how full a pipe is")
def test_ctrl_c_while_nobody_reads_what_is_written_is_no_traceback() -> None:
    with subprocess.Popen([sys.executable, "-c", TALKS], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"begun\n"
        n_before, n = -1, 0
        while n == 0 or n != n_before:  # until it waits for a reader
            time.sleep(0.2)
            n_before, n = n, struct.unpack("i", fcntl.ioctl(process.stderr, termios.FIONREAD, b"\0" * 4))[0]
        process.send_signal(signal.SIGINT)
        said = process.stderr.read().decode()
        assert process.wait(60) == 0, said[-2000:]
    assert "Traceback" not in said
    assert "Finishing the running trial, then stopping" in said
    assert said.endswith("the end\n")
