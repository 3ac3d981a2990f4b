"""The first code of ``smsapi serve`` and ``smsapi worker``: told to stop while the rest is loaded, they end with 0.

Whoever becomes this has blocked the signals that stop it, so that none comes before there is somebody to handle it.
gunicorn and dramatiq handle them from their own start on.
"""

import os
import runpy
import shutil
import signal
from types import FrameType
from typing import Final

from smsapi.cli.serve import OWN_METRICS_DIR, STOPS

_FIRST: Final = os.getpid()


def _stop(_number: int, _frame: FrameType | None) -> None:
    # Nothing has been begun; an exception would come in the middle of whatever is being imported.
    if os.getpid() == _FIRST and (own := os.environ.get(OWN_METRICS_DIR)):
        shutil.rmtree(own, ignore_errors=True)
    os._exit(0)


def main() -> None:
    """Load the rest and run it, as the arguments say."""
    for number in STOPS:
        signal.signal(number, _stop)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)
    runpy.run_module("smsapi.cli.start", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
