# SPDX-License-Identifier: Apache-2.0
"""What deleted servers and projects leave behind, on a whole cloud.

Each state is found, and ended by what the audit prints.
"""

from __future__ import annotations

from collections.abc import Iterator
import pathlib
import re
from typing import Any
import uuid

from novaclient import exceptions as nova_exceptions
import pytest

from tests.cloud import cloud as clouds
from tests.cloud import config
from tests.cloud import operators
from tests.cloud import people
from tests.cloud import records
from tests.cloud import stage as stages

pytestmark = pytest.mark.nightly


@pytest.fixture
def operator(
    cloud: clouds.Cloud, tmp_path: pathlib.Path
) -> operators.Operator:
    """An administrator of the cloud."""
    return operators.Operator(cloud, tmp_path)


def to_copy(row: dict[str, Any]) -> list[str]:
    """The lines of a script's comments that can be copied."""
    return [
        line.removeprefix('#   ')
        for line in row['What to do'].splitlines()
        if line.startswith('#   ')
    ]


@pytest.fixture
def files(cloud: clouds.Cloud) -> list[str]:
    """Options for an inventory by the databases."""
    return [
        f'--{name}-conf={cloud.places.etc(name)}/{name}.conf'
        for name in ('cinder', 'nova')
    ]


# A mapping of a deleted server


def test_nova_attaches_a_volume_again_without_the_mapping(
    stage: stages.Stage,
    operator: operators.Operator,
    cloud: clouds.Cloud,
    files: list[str],
) -> None:
    for server in ('gone', 'other'):
        stage.server(server)
    stage.volume('kept')
    stage.add_volume('kept', 'other')
    stage.volume('data')
    stage.add_volume('data', 'gone')
    stage.member.nova.servers.delete(stage.servers['gone'])
    stage.wait_for_status('gone', records.GONE)
    stage.wait_for_status('data', 'available')
    stage.settle()
    # As where the server is deleted while its mapping is written.
    changed = cloud.mariadb.write(
        'nova_cell1',
        'UPDATE block_device_mapping SET deleted = 0, deleted_at = NULL '
        'WHERE volume_id = %s',
        [stage.volumes['data']],
    )
    assert changed == 1
    with pytest.raises(
        nova_exceptions.BadRequest, match='already attached to instances'
    ):
        stage.add_volume('data', 'other')

    # The APIs show it only to who queries them for this server.
    assert operator.attachguard('audit', '--once').code == 0
    run = operator.attachguard('audit', '--once', *files)
    (row,) = run.output
    assert (run.code, row['Class']) == (3, 'nova-leftover'), run.errors
    assert row['Volume'] == stage.volumes['data']
    assert row['Server'] == stage.servers['gone']
    run = operator.attachguard('explain', stage.volumes['data'], *files)
    assert run.code == 3
    assert run.output['What to do'] == [row['What to do']]

    (statement,) = to_copy(row)
    assert cloud.mariadb.write('nova_cell1', statement, ()) == 1
    stage.add_volume('data', 'other')
    stage.settle()
    assert operator.attachguard('audit', '--once', *files).code == 0


# A deleted project


@pytest.fixture
def leaver(stage: stages.Stage, cloud: clouds.Cloud) -> Iterator[Any]:
    """A member of a project that is to be deleted."""
    identity: Any = stage.admin.sdk.identity
    name = f'leaver-{uuid.uuid4().hex}'
    project = identity.create_project(name=name, domain_id='default')
    user = identity.create_user(
        name=name, password=config.PASSWORD, domain_id='default'
    )
    role = identity.find_role('member')
    identity.assign_project_role_to_user(project, user, role)
    yield people.Caller(cloud.places, name, name)
    identity.delete_project(project, ignore_missing=True)
    identity.delete_user(user)


def test_the_volumes_of_a_deleted_project_get_an_owner_or_are_deleted(
    stage: stages.Stage,
    operator: operators.Operator,
    leaver: people.Caller,
    files: list[str],
    tmp_path: pathlib.Path,
) -> None:
    project_id = leaver.project_id
    stage.server('server', by=leaver)
    for volume in ('free', 'used'):
        stage.volume(volume, by=leaver)
    stage.add_volume('used', 'server', by=leaver)
    stage.settle()
    assert operator.attachguard('audit', '--once').code == 0
    identity: Any = stage.admin.sdk.identity
    identity.delete_project(project_id)

    def found() -> dict[str, dict[str, Any]]:
        """What an audit finds, by the volumes' names."""
        names = {value: name for name, value in stage.volumes.items()}
        # The APIs do not list volumes that are available.
        run = operator.attachguard('audit', '--once', *files)
        assert run.code == (3 if run.output else 0), run.errors
        for row in run.output:
            assert row['Class'] == 'no-project'
            assert row['Project'] == project_id
        return {names[row['Volume']]: row for row in run.output}

    rows = found()
    assert rows.keys() == {'free', 'used'}
    run = operator.attachguard('audit', '--once')
    assert {row['Class'] for row in run.output} == {'no-project'}
    run = operator.attachguard('repair', '--once', '--yes')
    assert {row['Result'] for row in run.output} == {'by hand'}

    # One is given to another project.
    printed = operator.type(rows['free']['What to do'], tmp_path)
    offered = dict(re.findall(r'\| (auth_key|id) +\| (\S+) +\|', printed))
    stage.member.cinder.transfers.accept(offered['id'], offered['auth_key'])
    stage.wait_for_status('free', 'available')
    volume = stage.admin.cinder.volumes.get(stage.volumes['free'])
    owner = getattr(volume, 'os-vol-tenant-attr:tenant_id')
    assert owner == stage.member.project_id

    # The other one is detached, and deleted.
    (detach,) = to_copy(found()['used'])
    operator.type(detach, tmp_path)
    stage.wait_for_status('used', 'available')
    _accept, delete = to_copy(found()['used'])
    operator.type(delete, tmp_path)
    stage.wait_for_status('used', records.GONE)
    assert found() == {}
