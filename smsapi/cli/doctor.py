"""``smsapi doctor``: looks, from where it runs, at everything that sending needs, and says what to do.

No check raises, and none prints a secret or a number. Nothing is changed by it: the receipt that is posted to try the
signature is about no message and says nothing that the service understands.
"""

import sys
from collections.abc import Callable, Mapping

import click

from smsapi.cli.admin import as_json, print_json
from smsapi.cli.checks import CHECKS
from smsapi.cli.demo import operator_settings
from smsapi.cli.examination import Patient, Verdict, failed, passed, skipped
from smsapi.clock import Clock, SystemClock
from smsapi.errors import SettingsInvalid, SmsapiError
from smsapi.log import reason_of
from smsapi.settings import Settings, find_unknown


@click.command()
@as_json
@click.pass_context
def doctor(context: click.Context, *, as_json: bool) -> None:
    """Check settings, stores, clocks, Plivo, the public URL, the signature and the queue; exit code 1 if any fails."""
    clock: Clock = context.obj or SystemClock()
    found = examine(clock)
    healthy = all(verdict.state != "fail" for verdict in found.values())
    if as_json:
        checks = [
            {"check": name, "state": verdict.state, "detail": verdict.detail, "advice": verdict.advice}
            for name, verdict in found.items()
        ]
        print_json({"healthy": healthy, "checks": checks})
    else:
        for name, verdict in found.items():
            state = "FAIL" if verdict.state == "fail" else verdict.state
            click.echo(f"{state:<5} {name:<15} {' '.join(filter(None, (verdict.detail, verdict.advice)))}")
    sys.exit(0 if healthy else 1)


def examine(clock: Clock) -> Mapping[str, Verdict]:
    """Return the verdict of every check, by its name, in their order; never raises."""
    settings, found = None, {"settings": passed(f"all can be read, and none is missing{_name_unknown()}")}
    try:
        settings = operator_settings(to_serve=True)
    except SettingsInvalid as error:
        advice = "`smsapi settings` prints every setting with its rule."
        found["settings"] = failed("; ".join(error.detail.splitlines()) + ".", advice)
        settings = _readable()
    patient = None if settings is None else Patient(settings, clock)
    for name, needed, check in CHECKS:
        missing = next((other for other in needed if found[other].state != "ok"), None)
        if patient is None or missing is not None:
            found[name] = skipped(f"needs {missing or 'settings'}")
        else:
            found[name] = _guarded(check, patient)
    return found


def _name_unknown() -> str:
    """Return what to say of variables that look like settings and are none; nothing where there are none."""
    said = [f"{name} ({nearest}?)" if nearest else name for name, nearest in find_unknown().items()]
    return f"; not known, and so not read: {', '.join(said)}" if said else ""


def _readable() -> Settings | None:
    """Return the settings where nothing is wrong but that some are missing to serve."""
    try:
        return operator_settings()
    except SettingsInvalid:
        return None


def _guarded(check: Callable[[Patient], Verdict], patient: Patient) -> Verdict:
    try:
        return check(patient)
    except SmsapiError as error:
        return failed(error.detail, "Mend that, and look again.")
    except Exception as error:  # noqa: BLE001 - one check must not end the others
        return failed(f"could not be checked ({reason_of(error)}).", "Look at it by hand.")
