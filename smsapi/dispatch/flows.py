"""Moved."""

from smsapi.messages.flows import Flow, Work, find_work

__all__ = ["Flow", "Work", "find_work"]
