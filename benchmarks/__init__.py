"""Benchmarks: speed as ratios, taken in one run on one machine; never a timed test.

Each module that measures ends with a ``Benchmark`` (``benchmarks.report``), and ``benchmarks.__main__`` lists them.
"""
