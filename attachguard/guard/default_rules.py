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
_IDLE = 'nova:no_server_has_volume and cinder:idle'
_UNUSED = f'{_IDLE} and cinder:consistent'
# Nobody but an operator can tell what a volume without any attachment is
# in-use by.
_CLEARS_ALL = f'{_IDLE} and (cinder:consistent or role:admin)'
_WITHOUT_SERVER = f'cinder:names_no_server and {_UNUSED}'
_CLEARS_ONE = 'nova:attachment_unused and cinder:idle'

_ADMIN_IN_CINDER = "Left to Cinder's own policy, which requires an admin."
_UNUSED_WHY = (
    'Allowed if no server has the volume, or may have it in a moment, by any '
    'attachment, and Cinder does not work on it. Refused for a volume that is '
    'in-use without any attachment.'
)
_CLEARS_ALL_WHY = (
    'Allowed if no server has the volume, or may have it in a moment, by any '
    'attachment, and Cinder does not work on it. A volume that is in-use '
    'without any attachment is left to admins.'
)
_WITHOUT_SERVER_WHY = (
    'Allowed if the attachment names no server, no server has the volume, and '
    'Cinder does not work on it.'
)

# By the name of the rule: its default, and why.
_ROWS: dict[str, tuple[str, str]] = {
    'os-attach': (
        'nova:server_has_volume and cinder:no_attachment and cinder:idle and '
        'role:admin',
        'Naming a server: an admin may restore the record of an attachment '
        'from before the Queens release. Allowed if Nova has the volume on '
        'that server, without an attachment id, and the server is idle, and '
        'Cinder has no attachment of the volume and does not work on it. '
        'Others may not: while Nova attaches a volume, its records look the '
        'same for a moment.',
    ),
    'os-attach:no-server': (
        _CLOSED,
        'Naming only a host: refused. Open it for a project whose own hosts '
        'attach volumes (Terraform, brick clients): "project_id:<id>".',
    ),
    'os-detach': (
        # First: clients expect another status than for a conflict.
        f'cinder:same_volume and {_CLEARS_ALL}',
        f'{_CLEARS_ALL_WHY} Cinder removes the export of the whole volume.',
    ),
    'os-reserve': (_UNUSED, _UNUSED_WHY),
    'os-unreserve': (_CLEARS_ALL, _CLEARS_ALL_WHY),
    'os-begin_detaching': (_CLEARS_ALL, _CLEARS_ALL_WHY),
    'os-roll_detaching': (
        'nova:idle and cinder:idle',
        'Allowed if Nova performs no task on a server of the volume, and the '
        'volume has not just changed.',
    ),
    'os-initialize_connection': (
        _UNUSED,
        f'{_UNUSED_WHY} With a connector that the driver rejects, '
        'Cinder removes the export of the volume.',
    ),
    'os-terminate_connection': (_CLEARS_ALL, _CLEARS_ALL_WHY),
    'os-force_detach': (_OPEN, _ADMIN_IN_CINDER),
    'os-reset_status': (_OPEN, _ADMIN_IN_CINDER),
    'os-migrate_volume_completion': (_OPEN, _ADMIN_IN_CINDER),
    'os-reimage': (
        _CLOSED,
        "Refused: Nova's rebuild does it. Afterwards the volume is available, "
        'also if a server was given it meanwhile.',
    ),
    'attachment-create': (
        _CLOSED,
        'Naming a server: refused, because the attachment cannot be the one '
        'that Nova has.',
    ),
    'attachment-create:no-server': (
        _UNUSED,
        f"Naming no server, as Glance's Cinder store does. {_UNUSED_WHY}",
    ),
    'attachment-update': (_WITHOUT_SERVER, _WITHOUT_SERVER_WHY),
    'attachment-complete': (_WITHOUT_SERVER, _WITHOUT_SERVER_WHY),
    'attachment-delete': (
        _CLEARS_ONE,
        'Allowed if its server is gone, or is idle and does not have the '
        'volume by this attachment, or it names none and is not connected, or '
        'no server has the volume; and Cinder does not work on the volume.',
    ),
    'transfer-create': (
        'cinder:no_attachment and cinder:idle and cinder:no_backup',
        'Allowed if the volume has no attachment, in any state: otherwise a '
        'server could keep, or delete, a volume of another project. And if '
        'Cinder does not work on it: at the end of a migration, Cinder gives '
        'the volume the project of its new copy, and at the end of a backup '
        'the status from before it.',
    ),
    'group-delete': (
        'cinder:group_no_attachment and cinder:group_idle',
        'Allowed if no volume of the group has an attachment, in any state, '
        'and each is available or failed: Cinder deletes what a server is '
        'about to use, and what is reserved for a shelved server. Also '
        'DELETE /groups/{group_id}, and the calls that delete a consistency '
        'group. To delete a group without its volumes is left to Cinder.',
    ),
}

# Without service tokens, Nova's own calls look like a user's. These lines open
# what Nova needs at the moments at which it needs it
# (nova.compute.api, nova.compute.manager, nova.virt.block_device): before it
# saves a server, while it builds or moves one, or has the volume by the
# attachment in question and not attached yet, or detaches it. It swaps a
# volume that is being migrated as the admin of Cinder's [nova].
_SWAPS = 'role:admin and cinder:migrating'
_DETACHES = 'cinder:detaching or nova:at_work'
NO_SERVICE_TOKEN = {
    PREFIX + name: rule
    for name, rule in {
        'os-detach': f'cinder:same_volume and ({_DETACHES} or {_CLEARS_ALL})',
        'os-begin_detaching': f'{_SWAPS} or cinder:idle and '
        '(cinder:consistent or role:admin)',
        'os-roll_detaching': _OPEN,
        'os-initialize_connection': f'nova:at_work or {_UNUSED}',
        'os-terminate_connection': f'{_DETACHES} or {_CLEARS_ALL}',
        'os-reimage': 'nova:at_work',
        'attachment-create': f'{_SWAPS} or nova:at_work or '
        'cinder:names_no_connector and nova:no_such_server',
        'attachment-update': f'{_SWAPS} or nova:at_work or '
        "'reserved':%(attachment_status)s and nova:by_this_attachment or "
        f'{_WITHOUT_SERVER}',
        'attachment-complete': f'{_SWAPS} or nova:by_this_attachment or '
        f'{_WITHOUT_SERVER}',
        'attachment-delete': "not 'attached':%(attachment_status)s and "
        'not cinder:migrating or '
        f'{_SWAPS} or {_DETACHES} or {_CLEARS_ONE}',
    }.items()
}


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
