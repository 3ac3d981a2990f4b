"""Commands that play Plivo, or print what the service says of itself."""

import click

from smsapi.app import create_app
from smsapi.cli.addresses import split_bind
from smsapi.cli.demo import SIMULATOR_AUTH_ID, SIMULATOR_AUTH_TOKEN
from smsapi.plivo.simulator import Simulator, serve_forever
from smsapi.send.testmode import TestProvider
from smsapi.settings import describe_settings, read_settings
from smsapi.web.openapi import dump_openapi


@click.command()
@click.option("--bind", default="127.0.0.1:8099", show_default=True, help="HOST:PORT to listen on.")
@click.option("--requests-per-5s", type=click.IntRange(min=0), default=300, show_default=True, help="0: no limit.")
@click.option("--answer-delay", type=click.FloatRange(0, 60), default=0.0, show_default=True, help="Seconds.")
def simulator(*, bind: str, requests_per_5s: int, answer_delay: float) -> None:
    """Play Plivo over HTTP: its wire format, its errors, its delivery reports, and magic numbers."""
    host, port = split_bind(bind)
    settings = read_settings()
    playing = Simulator(
        host=host,
        port=port,
        auth_id=settings.plivo_auth_id or SIMULATOR_AUTH_ID,
        auth_token=settings.plivo_auth_token or SIMULATOR_AUTH_TOKEN,
        requests_per_5s=requests_per_5s if requests_per_5s > 0 else None,
        answer_delay_seconds=answer_delay,
    )
    serve_forever(playing, lambda url: click.echo(f"Plivo is simulated at {url}", err=True))


@click.command()
def openapi() -> None:
    """Print the specification (OpenAPI 3.1) in YAML."""
    app = create_app(read_settings({}, jwt_secret="-" * 32), provider=TestProvider())
    click.echo(dump_openapi(app), nl=False)


@click.command("settings")
def settings_page() -> None:
    """Print every setting with its default, in Markdown."""
    click.echo(describe_settings())
