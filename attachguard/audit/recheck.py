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


"""One volume, looked at now: all that Cinder and Nova say of it.

What a repair does is decided by such a look, never by a list read before.
"""

from __future__ import annotations

from collections.abc import Collection
import dataclasses
from typing import Any

from attachguard.audit import foreign
from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.collect import rest

#: Attachments of one volume that are looked at: users can make as many as they
#: like, and each server is a question.
MOST = 200


def read_case(
    cloud: api.Cloud,
    volume_id: str,
    rules: foreign.Rules,
    servers: Collection[str] = (),
) -> model.Case:
    """Look at one volume.

    Cinder is asked first, and then Nova: what is attached in between is in
    Nova's answer, so that it cannot look like something Nova does not have.

    :param cloud: to ask
    :param volume_id: a UUID
    :param rules: what is foreign
    :param servers: ids of servers to ask about, too, which need not be named
        by Cinder
    :returns: with what is foreign set apart; ``unknown`` says why where
        Cinder does not answer
    """
    answer, row = cloud.volume(volume_id)
    evidence = [answer.evidence]
    if row is None and not answer.not_found:
        return model.Case(
            volume_id, None, evidence=tuple(evidence), unknown=answer.why
        )
    shown = {
        str(item['attachment_id']): item
        for item in (row or {}).get('attachments', ())
    }
    # By id: a list can have something twice.
    found: dict[str, model.Attachment] = {}
    try:
        for page in cloud.attachments(volume_id=volume_id):
            if page.rows or not found:
                said = f'Cinder: {len(page.rows)} attachments'
                evidence.append(
                    dataclasses.replace(page.evidence, result=said)
                )
            for item in page.rows:
                if item.get('volume_id') == volume_id:
                    attachment = api.attachment_from(
                        item, shown.get(str(item.get('id')))
                    )
                    found[attachment.id] = attachment
    except rest.CloudError as exc:
        return model.Case(
            volume_id, None, evidence=tuple(evidence), unknown=str(exc)
        )
    attachments = list(found.values())
    volume = None if row is None else api.volume_from(row)
    if volume is not None:
        volume, asked_for = _attach_status(cloud, volume, bool(attachments))
        evidence += asked_for
    named = {a.server_id for a in attachments if a.server_id}
    if len(attachments) > MOST or len(named.union(servers)) > MOST:
        return model.Case(
            volume_id,
            volume,
            evidence=tuple(evidence),
            unknown=f'it has more than {MOST} attachments',
        )
    asked: dict[str, model.Server] = {}
    for server_id in sorted(named.union(servers)):
        server, word = cloud.server(server_id, volume_id)
        evidence.append(word)
        if server.presence is model.Presence.HAS:
            server, word = cloud.nova_attachment(server, volume_id)
            evidence.append(word)
        asked[server_id] = server
    return rules.set_apart(
        model.Case(
            volume_id,
            volume,
            tuple(attachments),
            servers=asked,
            evidence=tuple(evidence),
        )
    )


def _attach_status(
    cloud: api.Cloud, volume: model.Volume, attached: bool
) -> tuple[model.Volume, list[model.Evidence]]:
    """Find out the attach_status, where it can matter.

    The API shows it to nobody, but lets administrators filter by it.
    """
    other = {
        ('available', False): 'attached',
        ('in-use', False): 'attached',
        ('in-use', True): 'detached',
    }.get((volume.status, attached))
    if other is None:
        return volume, []
    answer = cloud.cinder(
        'GET',
        f'/volumes?all_tenants=1&id={volume.id}&attach_status={other}',
    )
    rows: Any = answer.body.get('volumes')
    if answer.status != 200 or not isinstance(rows, list):
        return volume, [answer.evidence]
    found = any(row.get('id') == volume.id for row in rows)
    said = dataclasses.replace(
        answer.evidence,
        result=f'attach_status {"is" if found else "is not"} {other}',
    )
    return (
        dataclasses.replace(volume, attach_status=other if found else None),
        [said],
    )
