# SPDX-License-Identifier: Apache-2.0

"""Reports with content, for tests."""

from __future__ import annotations

import datetime
from typing import Any
from typing import Union
import uuid

from attachguard.audit import classes
from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.report import content

FINISHED = datetime.datetime(
    2026, 11, 25, 19, 8, 7, tzinfo=datetime.timezone.utc
)
#: The fields of a finding that come from the APIs.
TEXTS = (
    'volume_id',
    'attachment_id',
    'server_id',
    'project_id',
    'text',
    'since',
    'volume_name',
    'server_name',
    'host',
)
PROJECT = 'f0e1d2c3b4a5968778695a4b3c2d1e0f'


Item = Union[content.Entry, content.Foreign, content.Unknown]


def an_id(what: str, number: int) -> str:
    """An id, the same each time."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f'{what} {number}'))


def call(number: int, what: str, status: int | None) -> model.Evidence:
    return model.Evidence(
        f'GET /{what}s/{an_id(what, number)}',
        status,
        model.stamp(FINISHED),
        f'req-{an_id("request", number)}',
        'the server does not exist' if status == 404 else '',
    )


def entry(
    kind: str = 'server-gone',
    number: int = 1,
    *,
    state: content.State = content.State.FOUND,
    days: int = 2,
    **changes: Any,
) -> content.Entry:
    """A finding.

    :param number: among those of its class
    :param days: when it was first seen, before the end of the audit
    :param changes: other fields
    """
    attachment = an_id(f'{kind} attachment', number)
    server = an_id('server', number)
    finding: dict[str, Any] = {
        'kind': kind,
        'volume_id': an_id(f'{kind} volume', number),
        'attachment_id': attachment,
        'server_id': server,
        'project_id': PROJECT,
        'text': f'the volume is in-use in Cinder, attached to server {server}',
        'since': f'2026-11-{number % 20 + 1:02}T0{number % 10}:15:00',
        'evidence': (
            call(number, 'volume', 200),
            call(number, 'server', 404),
        ),
    }
    return content.Entry(
        classes.Finding(**{**finding, **changes}),
        state,
        FINISHED - datetime.timedelta(days=days),
        days + 1,
        f'openstack --os-cloud devstack volume attachment delete {attachment}',
    )


def foreign_attachment(number: int = 1, pattern: str = '') -> content.Foreign:
    """A foreign attachment, of Ironic or by a pattern."""
    reason = foreign.Reason.PATTERN if pattern else foreign.Reason.IRONIC
    return content.Foreign(
        an_id('volume', number),
        model.Attachment(
            an_id('attachment', number),
            an_id('node', number),
            'attached',
            'conductor-1',
            'ironic_mountpoint',
        ),
        foreign.Match(reason, pattern),
    )


def unknown(number: int = 1) -> content.Unknown:
    return content.Unknown(
        an_id('volume', number),
        'Nova does not respond: HTTP 503',
        (call(number, 'server', 503), call(number, 'server', None)),
    )


def counts(*items: Item) -> content.Counts:
    """Counts of items."""
    counted = content.Counts()
    for item in items:
        counted.add(item)
    return counted


def report(*items: Item, **changes: Any) -> content.Report:
    """The report of an audit.

    :param items: what it found
    :param changes: other fields
    """
    values: dict[str, Any] = {
        'cloud': 'devstack',
        'region': 'RegionOne',
        'started': FINISHED - datetime.timedelta(seconds=112),
        'finished': FINISHED,
        'volumes': 1203,
        'attachments': 980,
        'servers': 611,
        'counts': counts(*items),
        'entries': tuple(i for i in items if isinstance(i, content.Entry)),
        'foreign': tuple(i for i in items if isinstance(i, content.Foreign)),
        'unknown': tuple(i for i in items if isinstance(i, content.Unknown)),
    }
    return content.Report(**{**values, **changes})


def some() -> content.Report:
    """The report of an audit that found items of most kinds."""
    pending = content.State.PENDING
    return report(
        *(entry('server-gone', n) for n in range(8)),
        *(entry('server-gone', n, state=pending, days=0) for n in (8, 9)),
        *(entry('server-lacks-volume', n) for n in range(5)),
        entry('stuck-attaching', attachment_id=None, server_id=None),
        entry('duplicate', state=pending, days=0),
        entry('volume-gone', project_id=None, since=None),
        *(foreign_attachment(n) for n in range(3)),
        foreign_attachment(3, 'host=*-zun'),
        *(unknown(n) for n in range(2)),
    )
