# SPDX-License-Identifier: Apache-2.0

"""``attachguard demo`` as a process: its output, its logs and its end."""

from __future__ import annotations

import os
import pathlib
import re
import signal
import subprocess
import sysconfig
import time

from keystoneauth1 import session
from keystoneauth1.identity import v3
import pytest
import requests

COMMAND = (os.path.join(sysconfig.get_path('scripts'), 'attachguard'), 'demo')


@pytest.fixture(scope='module')
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp('demo')


@pytest.fixture(scope='module')
def output(directory: pathlib.Path) -> str:
    """Run the demonstration once, and return its standard output."""
    completed = subprocess.run(
        [*COMMAND, '--keep-logs', str(directory)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert completed.returncode == 0, completed.stderr
    assert 'Traceback' not in completed.stderr
    return completed.stdout


def rows(output: str) -> list[list[str]]:
    """Read the table: for each row, the text of its four cells."""
    result: list[list[str]] = []
    for block in re.split(r'^\+[-+]+\+$', output, flags=re.MULTILINE)[2:-1]:
        lines = [line.split('|')[1:-1] for line in block.strip().splitlines()]
        assert len({len(line) for line in lines}) == 1
        result.append(
            [
                '\n'.join(filter(None, (cell.strip() for cell in column)))
                for column in zip(*lines)
            ]
        )
    return result


def test_all_claims_are_met(output: str) -> None:
    assert output.count('[ok]') == 4
    assert output.endswith('The guard and the audit work.\n')


AVAILABLE = '=> both agree: available'
ATTACHED = 'Nova:   attached to MyVm\n=> both agree: attached'
FORGED = '=> ATTACHED only in Cinder'
REFUSED = '403 {}\nCinder: available'
DETACHED = '202 Accepted\nCinder: available'


def test_the_table_shows_both_clouds(output: str) -> None:
    expected = (
        ('nova.servers.create', AVAILABLE, AVAILABLE),
        (
            'cinder.volumes.attach',
            f'Nova:   not attached\n{FORGED}',
            REFUSED.format('server-lacks-volume'),
        ),
        ('vol.detach()', DETACHED, DETACHED),
        ('nova.volumes.create_server_volume', ATTACHED, ATTACHED),
        ('nova.volumes.delete_server_volume', AVAILABLE, AVAILABLE),
        (
            'cinder.attachments.create',
            'Cinder: reserved, server no_such_vm',
            REFUSED.format('names-server'),
        ),
        (
            'cinder.attachments.complete',
            'Cinder: in-use, server no_such_vm\n'
            f'Nova:   404 for no_such_vm\n{FORGED}',
            '(no call: there is no attachment)\nCinder: available',
        ),
        ('nova.volumes.create_server_volume', '400 Bad Request', ATTACHED),
    )
    found = rows(output)
    assert len(found) == len(expected)
    for number, (row, texts) in enumerate(zip(found, expected), 1):
        assert row[0] == str(number)
        assert len(row[1:]) == len(texts)
        for cell, text in zip(row[1:], texts):
            assert text in cell


def test_the_forged_volume_is_found_and_freed(output: str) -> None:
    _, audit, repair = output.split('  $ attachguard ')
    assert audit.startswith('audit --once')
    assert 'server-gone' in audit
    # The volume that Nova has attached is compared, and is not a finding.
    assert '1 found, 0 unconfirmed' in audit
    assert repair.startswith('repair --once')
    assert 'repaired' in repair


def test_the_error_message_names_the_command_to_use(output: str) -> None:
    assert 'openstack server add volume' in ' '.join(output.split())


def test_the_logs_are_kept(output: str, directory: pathlib.Path) -> None:
    for name, has_guard in (('with-guard', True), ('without-guard', False)):
        log = (directory / name / 'cinder.log').read_text()
        # This is the name of the guard's loggers.
        assert ('attachguard.guard.' in log) is has_guard


def _audit(text: str, number: int) -> subprocess.CompletedProcess[str]:
    """Run the audit as the text says, in the shell.

    :param text: what the demonstration has printed
    :param number: of the block of commands
    """
    block = text.split('# ---- ')[number]
    lines = [
        line
        for line in block.splitlines()
        if line.startswith(('export', 'attachguard audit'))
    ]
    return subprocess.run(
        ['/bin/sh', '-c', '\n'.join(lines)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def _attach(auth_url: str) -> int:
    """Forge an attachment of the volume ``spare``; return the status."""
    auth = v3.Password(
        auth_url=auth_url,
        username='member',
        password='member',
        project_name='demo',
        user_domain_id='default',
        project_domain_id='default',
    )
    member = session.Session(auth, timeout=30)
    endpoint = {'service_type': 'block-storage'}
    (spare,) = member.get(
        '/volumes?name=spare', endpoint_filter=endpoint
    ).json()['volumes']
    arguments = {'instance_uuid': spare['id'], 'mountpoint': '/dev/vdc'}
    response = member.post(
        f'/volumes/{spare["id"]}/action',
        endpoint_filter=endpoint,
        json={'os-attach': arguments},
        raise_exc=False,
    )
    return int(response.status_code)


def test_serve_runs_the_clouds_until_a_signal(tmp_path: pathlib.Path) -> None:
    output = tmp_path / 'output'
    with output.open('wb') as file:
        process = subprocess.Popen(
            [*COMMAND, '--serve'],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    try:
        deadline = time.monotonic() + 180
        # This is in the last of the commands, for each cloud.
        while output.read_text().count('attachguard repair --once') < 3:
            assert time.monotonic() < deadline
            assert process.poll() is None
            time.sleep(0.1)
        guarded, unguarded = re.findall(
            r'OS_AUTH_URL=(\S+)', output.read_text()
        )
        assert _attach(guarded) == 403
        assert _attach(unguarded) == 202
        assert _audit(output.read_text(), 1).returncode == 0
        assert _audit(output.read_text(), 2).returncode == 3
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=20) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(guarded, timeout=5)
    finally:
        process.kill()
        process.wait(timeout=10)
