"""A headless JSON API that sends SMS through Plivo."""

__version__ = "0.1.0"
