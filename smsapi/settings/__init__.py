"""The only reader of the environment."""

from smsapi.settings.declared import Settings
from smsapi.settings.reading import describe_settings, find_unknown, read_settings

__all__ = ["Settings", "describe_settings", "find_unknown", "read_settings"]
