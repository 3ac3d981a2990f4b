"""HTTP as such: problem answers, request context, reading bodies, idempotency, pages, health, metrics, the docs."""
