# SPDX-License-Identifier: Apache-2.0
"""The default rules: the table of who may do what, one rule a row.

They apply to ordinary callers: a service is always allowed.  The checks that
they name are in :mod:`attachguard.guard.policy`, the facts that these read in
:mod:`attachguard.guard.facts`.
"""

from __future__ import annotations

from oslo_policy import policy

from attachguard.guard import operations

PREFIX = 'attachguard:'
SERVICE = PREFIX + 'service'

_OPEN = '@'
_CLOSED = '!'
# A second record of the same attachment would remain when Nova removes the
# first, and keep the volume in-use.
_IF_ATTACHED_AND_NEW = 'False:%(recorded)s and nova:attached'
# A live attachment that is updated goes back to attaching, and Nova cannot
# detach it any more.
_IF_ATTACHED_AND_RESERVED = (
    'nova:no_server or (\'reserved\':%(attachment_status)s and nova:attached)'
)
_IF_ATTACHED_OR_NO_SERVER = 'nova:no_server or nova:attached'
_IF_NOT_ATTACHED = 'not nova:attached'
# A second attachment that a failed migration left can be removed while Nova
# has the volume by the first.
_IF_NOT_SAME_ATTACHMENT = 'not nova:same_attachment'

_ADMIN_IN_CINDER = "Left to Cinder's own policy, which requires an admin."

# By the name of the rule: its default, and why.
_ROWS: dict[str, tuple[str, str]] = {
    'os-attach': (
        _IF_ATTACHED_AND_NEW,
        'Naming a server: allowed if Nova has the volume on that server, and '
        'Cinder has no record of it yet.',
    ),
    'os-attach:no-server': (
        _CLOSED,
        'Naming only a host: refused. Open it for a project whose own hosts '
        'attach volumes (Terraform, brick clients): "project_id:<id>".',
    ),
    'os-detach': (
        _IF_NOT_ATTACHED,
        'Allowed if Nova does not have the volume, by any attachment: Cinder '
        'removes the export of the whole volume. It recovers a volume from a '
        'forged or stale attachment, and detaches none from a live server.',
    ),
    'os-reserve': (
        _OPEN,
        'Allowed: it marks no volume as attached, and os-unreserve undoes it.',
    ),
    'os-unreserve': (_OPEN, 'Allowed: it undoes os-reserve.'),
    'os-begin_detaching': (
        _IF_NOT_ATTACHED,
        "Allowed if Nova does not have the volume: otherwise a live server's "
        'volume stays in detaching.',
    ),
    'os-roll_detaching': (_OPEN, 'Allowed: it undoes os-begin_detaching.'),
    'os-initialize_connection': (
        _OPEN,
        'Allowed: it shows a connection, and attaches nothing. Close it where '
        'only hypervisors may reach the storage.',
    ),
    'os-terminate_connection': (
        _IF_NOT_ATTACHED,
        'Allowed if Nova does not have the volume.',
    ),
    'os-force_detach': (_OPEN, _ADMIN_IN_CINDER),
    'os-reset_status': (_OPEN, _ADMIN_IN_CINDER),
    'os-migrate_volume_completion': (_OPEN, _ADMIN_IN_CINDER),
    'attachment-create': (
        _IF_ATTACHED_AND_NEW,
        'Naming a server: allowed if Nova has the volume on that server, and '
        'Cinder has no record of it yet.',
    ),
    'attachment-create:no-server': (
        _OPEN,
        "Naming no server: allowed, because Glance's Cinder store does so, "
        'without a service token.',
    ),
    'attachment-update': (
        _IF_ATTACHED_AND_RESERVED,
        "Allowed if Nova has the volume on the attachment's server, and the "
        'attachment is still reserved; or if it names no server.',
    ),
    'attachment-complete': (
        _IF_ATTACHED_OR_NO_SERVER,
        "Allowed if Nova has the volume on the attachment's server, or if it "
        'names no server.',
    ),
    'attachment-delete': (
        _IF_NOT_SAME_ATTACHMENT,
        'Allowed if Nova does not have the volume by this attachment. Refused '
        'for all attachments while Nova moves a server that has the volume.',
    ),
}

# Without service tokens, Nova's own calls look like a user's: detach, and
# attachment-create and -update for a server that is still being built, for
# which Nova itself responds with 404 until the update is done
# (nova.virt.block_device). Without attachment-complete, none of these makes a
# volume in-use.
NO_SERVICE_TOKEN = {
    PREFIX + name: _OPEN
    for name in (
        'attachment-create',
        'attachment-delete',
        'attachment-update',
        'os-begin_detaching',
        'os-detach',
        'os-terminate_connection',
    )
}
# An admin who migrates a volume in use makes Nova swap it: Nova completes the
# new attachment while it still records the old volume, and if that is refused,
# removes the export that the guest uses (nova.compute.manager, swap_volume).
NO_SERVICE_TOKEN[PREFIX + 'attachment-complete'] = (
    'role:admin or nova:no_server or nova:attached'
)


def list_rules() -> list[policy.RuleDefault]:
    """The default rules, for ``oslopolicy-sample-generator``.

    :returns: one documented rule a row
    """
    rules: list[policy.RuleDefault] = [
        policy.RuleDefault(
            SERVICE,
            'service_roles:service or role:service',
            description='The callers that are services, to which the other '
            'rules do not apply: the request carries a confirmed service '
            'token with the role, or its own user has the role (the periodic '
            'tasks of Nova, nova-manage, Ironic). To restrict it to one user: '
            '"(service_roles:service and service_user_id:<id>) or '
            '(role:service and user_id:<id>)".',
        )
    ]
    for name, (default, why) in _ROWS.items():
        operation = operations.OPERATIONS[name.partition(':')[0]]
        rules.append(
            policy.DocumentedRuleDefault(
                PREFIX + name,
                default,
                f'{operation.description} {why}',
                [{'method': operation.method, 'path': operation.path}],
            )
        )
    return rules
