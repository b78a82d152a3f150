# SPDX-License-Identifier: Apache-2.0

"""Decide how to repair a finding: the plan, with what only Cinder shows.

Whether an attachment is connected to a host is read for it alone.
"""

from __future__ import annotations

from attachguard.audit import classes
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.repair import plan


def plan_of(
    cloud: api.Cloud, finding: classes.Finding, case: model.Case
) -> plan.Plan:
    """Plan the repair of a finding.

    :param cloud: to read from
    :param finding: found in the case
    :param case: the volume, as read just before
    """
    connected = is_connected(cloud, finding.attachment_id)
    if connected is False and _names_host(finding, case):
        return plan.Plan(
            (),
            'the attachment names a host but was never connected to it. Nova '
            'does not do so; Zun does. Find out who attached it, and see '
            '--foreign',
        )
    planned = plan.make(finding, case, connected)
    if (
        planned.steps
        and finding.attachment_id is not None
        and connected is not False
        and may_disconnect_another(cloud, finding, case)
    ):
        return plan.Plan(
            (),
            'the attachment may be connected to a host where something other '
            'than Nova (for example Zun) has the volume too, and would lose '
            'its connection. Find out what does, and see --foreign',
        )
    return planned


def is_connected(cloud: api.Cloud, attachment_id: str | None) -> bool | None:
    """Return whether an attachment has a connection to a host.

    :param cloud: the cloud
    :param attachment_id: the attachment, if there is one
    :returns: None where that is unknown. Cinder responds 400 where there is
        none and the volume is on NFS
    """
    if attachment_id is None:
        return None
    response = cloud.cinder('GET', f'/attachments/{attachment_id}')
    row = response.body.get('attachment')
    if response.status != 200 or not isinstance(row, dict):
        return None
    return bool(row.get('connection_info'))


def may_disconnect_another(
    cloud: api.Cloud, finding: classes.Finding, case: model.Case
) -> bool:
    """Return whether another attachment may have a connection of its own.

    No driver knows of such a one, as its record has no connector.

    :param cloud: the cloud
    :param finding: names the attachment that is to be removed
    :param case: the volume
    """
    return any(
        item.id != finding.attachment_id
        and item.host
        and case.servers[item.server_id or ''].presence is model.Presence.GONE
        and not is_connected(cloud, item.id)
        for item in case.attachments
    )


def _names_host(finding: classes.Finding, case: model.Case) -> bool:
    return any(
        item.id == finding.attachment_id and item.host
        for item in case.attachments
    )
