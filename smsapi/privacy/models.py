"""The table of clients' own times of retention, where they differ from the setting."""

from uuid import UUID

from sqlalchemy import Column, Connection, ForeignKey, Integer, Table, delete, insert, select

from smsapi.db import metadata

client_retention = Table(
    "client_retention",
    metadata,
    Column("client_id", ForeignKey("clients.id"), primary_key=True),
    # 0: its messages are kept whatever the setting says.
    Column("days", Integer, nullable=False),
)


def get_retention(connection: Connection, client_id: UUID) -> int | None:
    """Return the client's own days of retention, or None where the setting holds for it."""
    query = select(client_retention.c.days).where(client_retention.c.client_id == client_id)
    days: int | None = connection.execute(query).scalar_one_or_none()
    return days


def set_retention(connection: Connection, client_id: UUID, days: int | None) -> None:
    """Give the client its own days of retention (0: for ever), or with None the setting's."""
    connection.execute(delete(client_retention).where(client_retention.c.client_id == client_id))
    if days is not None:
        connection.execute(insert(client_retention).values(client_id=client_id, days=days))
