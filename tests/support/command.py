"""The ``smsapi`` command as a process of its own, with an environment of its own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from click.testing import CliRunner, Result

from smsapi.cli import cli
from tests.support.forkserver import run_to_end

SMSAPI = (sys.executable, "-m", "smsapi")


def environment(**given: str) -> dict[str, str]:
    """Return this process's environment without any setting of the service, and with what is given."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SMSAPI_", "PLIVO_", "SENTRY_"))}
    return {**kept, **given}


def run(*arguments: str, stdin: bytes = b"", timeout: float = 60, **environ: str) -> subprocess.CompletedProcess[bytes]:
    """Run ``smsapi`` to its end."""
    return run_to_end(arguments, environment(**environ), stdin=stdin, timeout=timeout)


def called(*arguments: str, stdin: bytes = b"", **environ: str) -> Result:
    """Run ``smsapi`` within this process, which is quicker; an error of ours is in ``exception``."""
    unset = dict.fromkeys(name for name in os.environ if name not in environment())
    return CliRunner().invoke(cli, arguments, input=stdin, env={**unset, **environ})


@contextmanager
def dev(*arguments: str, **environ: str) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Start ``smsapi dev --json`` and return it with what it printed, once it is ready."""
    with subprocess.Popen(
        [*SMSAPI, "dev", "--json", *arguments],
        env=environment(**environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            assert line, process.stderr.read() if process.stderr else ""
            yield process, json.loads(line)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.communicate(timeout=30)
