"""The alert rules of ``deploy/prometheus``, tried with what a service's ``/metrics`` shows."""

import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

RULES: Final = Path(__file__).parents[2] / "deploy" / "prometheus" / "smsapi.rules.yml"
PROMTOOL: Final = shutil.which("promtool")
# `make test` installs it where it may; what is checked without it is everything but Prometheus's own word.
needs_promtool = pytest.mark.skipif(
    PROMTOOL is None, reason="promtool (of Debian's package prometheus) is not installed"
)


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]


def promtool(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    assert PROMTOOL is not None
    return subprocess.run([PROMTOOL, *words], cwd=cwd, capture_output=True, text=True, check=False)


def fires(alert: str, exposition: str, directory: Path) -> bool:
    """Say whether the alert is raised by two scrapes, 15 seconds apart, that found just this."""
    samples = [line.rsplit(" ", 1) for line in exposition.splitlines() if line.startswith("smsapi_")]
    tried = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "15s",
        "tests": [
            {
                "interval": "15s",
                "input_series": [{"series": name, "values": f"{float(value)}x1"} for name, value in samples],
                "promql_expr_test": [
                    {
                        "expr": f'count(ALERTS{{alertname="{alert}",alertstate="firing"}})',
                        "eval_time": "15s",
                        "exp_samples": [{"labels": "{}", "value": 1}],
                    }
                ],
            }
        ],
    }
    (directory / "tried.yml").write_text(yaml.safe_dump(tried), encoding="utf-8")
    done = promtool("test", "rules", "tried.yml", cwd=directory)
    assert done.returncode == 0 or "got: nil" in done.stdout + done.stderr, done
    return done.returncode == 0
