# SPDX-License-Identifier: Apache-2.0


"""Cases: a volume, its attachments in Cinder and its servers in Nova."""

from __future__ import annotations

import datetime
from typing import Any

from attachguard.audit import model

VOLUME = 'aaaaaaaa-1111-4111-8111-aaaaaaaaaaaa'
PROJECT = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'
SERVER = '11111111-aaaa-4aaa-8aaa-111111111111'
OTHER = '22222222-aaaa-4aaa-8aaa-222222222222'
FIRST = 'cccccccc-1111-4111-8111-cccccccccccc'
SECOND = 'dddddddd-1111-4111-8111-dddddddddddd'
THIRD = 'eeeeeeee-1111-4111-8111-eeeeeeeeeeee'

HAS, LACKS = model.Presence.HAS, model.Presence.LACKS
GONE, UNKNOWN = model.Presence.GONE, model.Presence.UNKNOWN


#: What Keystone responds about the project of the volume.
NO_PROJECT = model.Project(False)


#: When the volume last changed, when it is read, and a time long before.
CHANGED = '2026-01-02T03:04:05.000000'
NOW = datetime.datetime(2026, 1, 2, 3, 5, tzinfo=datetime.timezone.utc)
OLD = '2025-11-01T00:00:00.000000'


def volume(status: str = 'in-use', **values: Any) -> model.Volume:
    """A volume."""
    values.setdefault('updated_at', CHANGED)
    return model.Volume(VOLUME, PROJECT, status, **values)


def attachment(
    server_id: str | None = SERVER,
    status: str = 'attached',
    found: str = FIRST,
    **values: Any,
) -> model.Attachment:
    """An attachment of the volume."""
    return model.Attachment(found, server_id, status, **values)


def server(
    presence: model.Presence,
    attachment_id: str | None = None,
    found: str = SERVER,
    **values: Any,
) -> model.Server:
    """A server, with respect to the volume."""
    return model.Server(found, presence, attachment_id, **values)


def case(
    of: model.Volume | None,
    *things: model.Attachment | model.Server,
    **values: Any,
) -> model.Case:
    """The case of the volume."""
    return model.Case(
        VOLUME,
        of,
        tuple(t for t in things if isinstance(t, model.Attachment)),
        servers={t.id: t for t in things if isinstance(t, model.Server)},
        **{'at': NOW, **values},
    )
