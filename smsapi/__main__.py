"""``python -m smsapi`` is the ``smsapi`` command."""

from smsapi.cli import main

main()
