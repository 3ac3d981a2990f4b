"""A process that is asked to stop many times at once stops, and does not meet itself in its own handler."""

import signal
import subprocess

from tests.support.command import SMSAPI, environment


def test_signals_that_come_one_upon_the_other_stop_it():
    command = [*SMSAPI, "simulator", "--bind", "127.0.0.1:0"]
    for _ in range(3):
        with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
            assert process.stdout is not None
            assert process.stdout.readline()
            for number in range(400):
                process.send_signal(signal.SIGTERM if number % 2 else signal.SIGINT)
            try:
                assert process.wait(60) in {0, -signal.SIGTERM, -signal.SIGINT}
            finally:
                process.kill()
