"""``python -m benchmarks [NAME …]``: run the benchmarks and print their tables."""

import sys

from benchmarks import accept, dispatch

BENCHMARKS = {"accept": accept.main, "dispatch": dispatch.main}

for name in sys.argv[1:] or BENCHMARKS:
    BENCHMARKS[name]()
