"""Interface of a benchmark: its sizes, what it measures, and the table and the JSON line that are made of it."""

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

from benchmarks.servers import Servers


@dataclass(frozen=True)
class Benchmark:
    """One benchmark; its sizes and its figures are dataclasses, with units in the names of their fields.

    ``run`` gets a size and empty servers, returns the figures, and raises BenchmarkError where anything failed.
    ``table`` returns the lines that show the figures. ``durable`` leaves PostgreSQL's fsync on.
    """

    full: Any
    tiny: Any
    run: Callable[[Any, Servers], Any]
    table: Callable[[Any, Any], Iterable[str]]
    durable: bool = False


def json_line(name: str, size_name: str, size: Any, figures: Any) -> str:
    """Return the figures and the parameters of a run as one line of JSON.

    Raises ValueError where a figure is infinite or not a number, which JSON cannot express.
    """
    shown = {"benchmark": name, "size": size_name, "parameters": asdict(size), "figures": asdict(figures)}
    return json.dumps(shown, allow_nan=False)
