"""Rate limits: pure decisions over time, and the two places where what was spent is kept.

``gcra`` decides, ``store`` is the port, ``memory`` and ``redis`` keep the tallies, ``fallback`` goes on without Redis.
"""
