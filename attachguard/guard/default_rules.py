# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.
"""The default rules: the table of who may do what, a rule to each row.

What they are made of is :mod:`attachguard.guard.policy`; what they look at is
:mod:`attachguard.guard.facts`.
"""

from __future__ import annotations

import dataclasses

from oslo_policy import policy

from attachguard.guard import request as guard_request

PREFIX = 'attachguard:'
SERVICE = 'rule:attachguard:service'

_OPEN = '@'
# A second record of the same attachment would stay when Nova removes the
# first, and keep the volume in-use.
_IF_ATTACHED_AND_NEW = f'{SERVICE} or (False:%(recorded)s and nova:attached)'
# A live attachment that is updated goes back to attaching, and Nova cannot
# detach it any more.
_IF_ATTACHED_AND_RESERVED = (
    f"{SERVICE} or nova:no_server or "
    "('reserved':%(attachment_status)s and nova:attached)"
)
_IF_ATTACHED_OR_NO_SERVER = f'{SERVICE} or nova:no_server or nova:attached'
_IF_NOT_ATTACHED = f'{SERVICE} or not nova:attached'
# A second attachment, left behind by a migration that failed, can be removed
# while Nova has the volume by the first.
_IF_NOT_THE_SAME = f'{SERVICE} or not nova:same_attachment'


@dataclasses.dataclass(frozen=True)
class _Row:
    default: str
    why: str


_ROWS: dict[str, _Row] = {
    'os-attach': _Row(
        _IF_ATTACHED_AND_NEW,
        'Naming a server: only if Nova says that the server has the volume, '
        'and Cinder has no record of it yet.',
    ),
    'os-attach:no-server': _Row(
        SERVICE,
        'Naming only a host. Open it for a project whose own hosts attach '
        'volumes (Terraform, brick clients): '
        '"rule:attachguard:service or project_id:<id>".',
    ),
    'os-detach': _Row(
        _IF_NOT_ATTACHED,
        'Only if Nova does not have it, by whichever attachment: Cinder '
        'removes the export of the whole volume. What recovers a volume from '
        'a forged or stale attachment, and pulls none from a live server.',
    ),
    'os-reserve': _Row(
        _OPEN, 'It marks no volume as attached; os-unreserve takes it back.'
    ),
    'os-unreserve': _Row(_OPEN, 'The way out of os-reserve.'),
    'os-begin_detaching': _Row(
        _IF_NOT_ATTACHED,
        "Only if Nova does not have it: else a live server's volume sticks "
        'in detaching.',
    ),
    'os-roll_detaching': _Row(_OPEN, 'The way out of os-begin_detaching.'),
    'os-initialize_connection': _Row(
        _OPEN,
        'It shows a connection, and attaches nothing. Close it where '
        'only hypervisors may reach the storage.',
    ),
    'os-terminate_connection': _Row(
        _IF_NOT_ATTACHED, 'Only if Nova does not have it.'
    ),
    'os-force_detach': _Row(
        _OPEN, "Left to Cinder's own policy, which wants an admin."
    ),
    'os-reset_status': _Row(
        _OPEN, "Left to Cinder's own policy, which wants an admin."
    ),
    'os-migrate_volume_completion': _Row(
        _OPEN, "Left to Cinder's own policy, which wants an admin."
    ),
    'attachment-create': _Row(
        _IF_ATTACHED_AND_NEW,
        'Naming a server: only if Nova says that the server has the volume, '
        'and Cinder has no record of it yet.',
    ),
    'attachment-create:no-server': _Row(
        _OPEN,
        "Naming no server: Glance's Cinder store does so, without a service "
        'token.',
    ),
    'attachment-update': _Row(
        _IF_ATTACHED_AND_RESERVED,
        "Only if Nova says that the attachment's server has the volume, and "
        'the attachment is still reserved; or if there is no server.',
    ),
    'attachment-complete': _Row(
        _IF_ATTACHED_OR_NO_SERVER,
        "Only if Nova says that the attachment's server has the volume, or "
        'there is no server.',
    ),
    'attachment-delete': _Row(
        _IF_NOT_THE_SAME,
        'Only if Nova does not have the volume by this attachment. While Nova '
        'moves a server that has the volume, none of its attachments.',
    ),
}

# Where Nova sends no service token, its own calls look like a user's: detach,
# and attachment-create and -update for a server that is only being built, of
# which Nova itself says 404 until the update is done (nova.virt.block_device).
# Without attachment-complete, none of these makes a volume in-use.
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
# new attachment while it still has the old volume in its books, and when that
# is refused, takes the export from under the guest (nova.compute.manager,
# swap_volume).
NO_SERVICE_TOKEN[PREFIX + 'attachment-complete'] = (
    f'{SERVICE} or role:admin or nova:no_server or nova:attached'
)


def list_rules() -> list[policy.RuleDefault]:
    """The default rules, for ``oslopolicy-sample-generator``.

    :returns: one documented rule a row
    """
    rules: list[policy.RuleDefault] = [
        policy.RuleDefault(
            PREFIX + 'service',
            'service_roles:service or role:service',
            description='Who is a service, and let through by the other '
            'rules: the request carries a confirmed service token with the '
            "role, or its own user has it (Nova's periodic tasks, "
            'nova-manage, Ironic). To pin it to one user: '
            '"(service_roles:service and service_user_id:<id>) or '
            '(role:service and user_id:<id>)".',
        )
    ]
    for name, row in _ROWS.items():
        operation = guard_request.OPERATIONS[name.partition(':')[0]]
        rules.append(
            policy.DocumentedRuleDefault(
                PREFIX + name,
                row.default,
                f'{operation.what} {row.why}',
                [{'method': operation.method, 'path': operation.path}],
            )
        )
    return rules
