"""The yardstick: a bare Flask route under the same gunicorn settings."""

from flask import Flask, jsonify

app = Flask(__name__)


@app.post("/v1/messages")
def create_message():
    return jsonify(status="queued"), 202
