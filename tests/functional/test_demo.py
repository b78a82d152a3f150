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

"""``attachguard demo`` as an operator runs it: a process, and what it says."""

from __future__ import annotations

from collections import abc
import contextlib
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
def told(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[subprocess.CompletedProcess[str], pathlib.Path]:
    directory = tmp_path_factory.mktemp('demo')
    completed = subprocess.run(
        [*COMMAND, '--keep-logs', str(directory)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    return completed, directory


def rows(output: str) -> list[list[str]]:
    """Read the table: for each row, the text of its four cells."""
    result: list[list[str]] = []
    for block in re.split(r'^\+[-+]+\+$', output, flags=re.MULTILINE)[2:-1]:
        lines = [line.split('|')[1:-1] for line in block.strip().splitlines()]
        result.append(
            [
                '\n'.join(filter(None, (cell.strip() for cell in column)))
                for column in zip(*lines, strict=True)
            ]
        )
    return result


def test_story_comes_out_as_promised(
    told: tuple[subprocess.CompletedProcess[str], pathlib.Path],
) -> None:
    completed, _ = told
    assert completed.returncode == 0, completed.stderr
    assert completed.stdout.count('[ok]') == 3
    assert completed.stdout.endswith('The guard has done what it promises.\n')
    assert 'Traceback' not in completed.stderr


@pytest.mark.parametrize(
    ('number', 'call', 'without', 'guarded'),
    [
        (1, 'nova.servers.create', '=> free', '=> free'),
        (
            2,
            'cinder.volumes.attach',
            'in-use by MyVm\nNova:   MyVm has no volume\n=> FORGED',
            '403 server-lacks-volume\nCinder: available',
        ),
        (
            3,
            'vol.detach()',
            '202 Accepted\nCinder: available',
            '202 Accepted\nCinder: available',
        ),
        (
            4,
            'nova.volumes.create_server_volume',
            'MyVm has MyVol\n=> attached',
            'MyVm has MyVol\n=> attached',
        ),
        (5, 'nova.volumes.delete_server_volume', '=> free', '=> free'),
        (
            6,
            'cinder.attachments.create',
            'reserved by no_such_vm',
            '403 server-lacks-volume\nCinder: available',
        ),
        (
            7,
            'cinder.attachments.complete',
            'in-use by no_such_vm\nNova:   no_such_vm is 404\n=> FORGED',
            '(there is no attachment)\nCinder: available',
        ),
        (
            8,
            'nova.volumes.create_server_volume',
            '400 Bad Request',
            'MyVm has MyVol\n=> attached',
        ),
    ],
)
def test_table_shows_both_columns(
    told: tuple[subprocess.CompletedProcess[str], pathlib.Path],
    number: int,
    call: str,
    without: str,
    guarded: str,
) -> None:
    table = rows(told[0].stdout)
    assert len(table) == 8
    row = table[number - 1]
    assert row[0] == str(number)
    assert call in row[1]
    assert without in row[2]
    assert guarded in row[3]


def test_refusal_is_quoted_with_what_to_do_instead(
    told: tuple[subprocess.CompletedProcess[str], pathlib.Path],
) -> None:
    assert 'openstack server add volume' in ' '.join(told[0].stdout.split())


def test_logs_are_kept(
    told: tuple[subprocess.CompletedProcess[str], pathlib.Path],
) -> None:
    for name, has_guard in (('with-guard', True), ('without-guard', False)):
        log = (told[1] / name / 'cinder.log').read_text()
        assert ('attachguard guards' in log) is has_guard


@contextlib.contextmanager
def serving(
    directory: pathlib.Path,
) -> abc.Iterator[tuple[subprocess.Popen[bytes], str]]:
    said = directory / 'said'
    with said.open('wb') as file:
        process = subprocess.Popen(
            [*COMMAND, '--serve'],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.DEVNULL,
        )
    give_up = time.monotonic() + 180
    try:
        # The last line of what to type next, the second time.
        last = 'curl -s -H "X-Auth-Token: $TOKEN"'
        while said.read_text().count(last) < 2:
            assert time.monotonic() < give_up
            assert process.poll() is None
            time.sleep(0.1)
        yield process, said.read_text()
    finally:
        process.kill()
        process.wait(timeout=10)


@pytest.mark.parametrize('how', [signal.SIGINT, signal.SIGTERM])
def test_serve_can_be_used_until_it_is_told_to_end(
    how: signal.Signals, tmp_path: pathlib.Path
) -> None:
    with serving(tmp_path) as (process, output):
        guarded, open_ = re.findall(r'OS_AUTH_URL=(\S+)', output)
        for url, status in ((guarded, 403), (open_, 202)):
            member = session.Session(
                v3.Password(
                    auth_url=url,
                    username='member',
                    password='member',
                    project_name='demo',
                    user_domain_id='default',
                    project_domain_id='default',
                ),
                timeout=30,
            )
            (spare,) = member.get(
                '/volumes?name=spare',
                endpoint_filter={'service_type': 'block-storage'},
            ).json()['volumes']
            response = member.post(
                f'/volumes/{spare["id"]}/action',
                endpoint_filter={'service_type': 'block-storage'},
                json={
                    'os-attach': {
                        'instance_uuid': spare['id'],
                        'mountpoint': '/dev/vdc',
                    }
                },
                raise_exc=False,
            )
            assert response.status_code == status
        process.send_signal(how)
        assert process.wait(timeout=20) == 0
        with pytest.raises(requests.ConnectionError):
            requests.get(guarded, timeout=5)
