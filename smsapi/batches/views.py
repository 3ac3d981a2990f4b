"""The blueprint ``batches``: how a batch stands."""

from flask import Blueprint

from smsapi.batches import models

blueprint = Blueprint("batches", __name__)

__all__ = ["blueprint", "models"]
