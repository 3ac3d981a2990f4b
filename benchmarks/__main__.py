"""``python -m benchmarks [NAME …] [ROWS …]``: run the benchmarks and print their tables; ROWS are for ``batches``."""

import sys

from benchmarks import accept, batches, dispatch, receipts

ROWS = [int(word) for word in sys.argv[1:] if word.isdigit()]
BENCHMARKS = {
    "accept": accept.main,
    "batches": lambda: batches.main(*ROWS),
    "dispatch": dispatch.main,
    "receipts": receipts.main,
}

for name in [word for word in sys.argv[1:] if not word.isdigit()] or BENCHMARKS:
    BENCHMARKS[name]()
