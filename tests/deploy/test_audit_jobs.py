# SPDX-License-Identifier: Apache-2.0
"""The regular audit: cron, systemd's units, Kubernetes' job, web servers."""

from __future__ import annotations

from collections.abc import Iterator
import contextlib
import json
import os
import pathlib
import pwd
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import uuid

import pytest
import requests
from requests import adapters
import yaml

from attachguard.audit import files
from attachguard.testing import StubCloud
from tests.deploy import conftest

pytestmark = pytest.mark.nightly

UNITS = conftest.ROOT / 'deploy' / 'systemd'
_APACHE = '/usr/lib/apache2/modules'
JOB = conftest.ROOT / 'deploy' / 'kubernetes' / 'audit-cronjob.yaml'


def test_systemd_accepts_the_units(tmp_path: pathlib.Path) -> None:
    if not shutil.which('systemd-analyze'):
        pytest.skip('systemd is not installed')
    for unit in UNITS.iterdir():
        text = unit.read_text().replace('/usr/bin/', f'{sys.prefix}/bin/')
        # A user that there is on every machine.
        (tmp_path / unit.name).write_text(
            text.replace('User=attachguard', 'User=daemon').replace(
                'User=cinder', 'User=daemon'
            )
        )
    units = sorted(map(str, tmp_path.iterdir()))
    assert len(units) == 3
    assert conftest.run(['systemd-analyze', 'verify', *units], tmp_path) == ''


@pytest.mark.parametrize(
    ('code', 'succeeds'), [(0, True), (3, True), (1, False)]
)
def test_the_job_succeeds_if_the_audit_was_completed(
    tmp_path: pathlib.Path, code: int, succeeds: bool
) -> None:
    job = yaml.safe_load(JOB.read_text())['spec']
    assert job['concurrencyPolicy'] == 'Forbid'
    [container] = job['jobTemplate']['spec']['template']['spec']['containers']
    fake = tmp_path / 'attachguard'
    fake.write_text(f'#!/bin/sh\nexit {code}\n')
    fake.chmod(0o755)
    done = subprocess.run(
        container['command'],
        env={'PATH': f'{tmp_path}:{os.environ["PATH"]}'},
    )
    assert (done.returncode == 0) is succeeds


def test_the_state_is_on_a_volume() -> None:
    pod = yaml.safe_load(JOB.read_text())['spec']['jobTemplate']['spec'][
        'template'
    ]['spec']
    [container] = pod['containers']
    home = {item['name']: item['value'] for item in container['env']}[
        'XDG_STATE_HOME'
    ]
    [name] = [
        mount['name']
        for mount in container['volumeMounts']
        if mount['mountPath'] == f'{home}/attachguard'
    ]
    [volume] = [item for item in pod['volumes'] if item['name'] == name]
    assert 'persistentVolumeClaim' in volume


def _examples(language: str) -> list[str]:
    """The examples of the documentation, without their indentation."""
    text = (conftest.ROOT / 'doc/source/admin/audit.rst').read_text()
    blocks = re.findall(
        rf'code-block:: {language}\n\n((?:   .*\n|\n)+)', text, re.MULTILINE
    )
    return [textwrap.dedent(block).strip() for block in blocks]


class Job:
    """A cron job of the documentation, run as cron runs it.

    :ivar home: of its user
    :ivar page: the page that it writes
    :ivar command: what cron gives to the shell
    """

    def __init__(self, example: str, directory: pathlib.Path) -> None:
        self.home = directory / 'home'
        self.page = directory / 'page' / 'index.html'
        metrics = directory / 'metrics'
        for path in (self.home, self.page.parent, metrics):
            path.mkdir()
        line = example.splitlines()[-1]
        *times, user, self.command = line.split(None, 6)
        assert [*times, user] == ['*/15', *'****', 'attachguard']
        assert '%' not in self.command
        for place, other in (
            ('/usr/bin/attachguard', f'{sys.prefix}/bin/attachguard'),
            ('/srv/attachguard', self.page.parent),
            ('/var/lib/node_exporter/textfile', metrics),
        ):
            self.command = self.command.replace(place, str(other))

    def log_in(self, cloud: StubCloud) -> None:
        """Write the credentials of the cloud ``prod``."""
        path = self.home / '.config/openstack/clouds.yaml'
        path.parent.mkdir(parents=True)
        auth = cloud.auth_settings('admin')
        auth.pop('auth_type', None)
        path.write_text(json.dumps({'clouds': {'prod': {'auth': auth}}}))

    def run(self) -> str:
        """Run it.

        :returns: what cron would mail
        """
        done = subprocess.run(
            ['/bin/sh', '-c', self.command],
            cwd=self.home,
            env={
                'HOME': str(self.home),
                'LOGNAME': 'attachguard',
                'PATH': '/usr/bin:/bin',
                'SHELL': '/bin/sh',
                # Not of cron: where the tests run, not what they run.
                'PYTHONPATH': str(conftest.ROOT),
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
        )
        return done.stdout


@contextlib.contextmanager
def _cloud(volumes: int) -> Iterator[StubCloud]:
    """A cloud with some volumes attached to servers that do not exist."""
    with StubCloud() as cloud:
        other = cloud.project_id('other')
        server = cloud.nova.add_server(other)
        for number in range(volumes + 1):
            volume = cloud.cinder.add_volume(other, name=f'db {number}')
            attachment = cloud.cinder.add_attachment(
                volume.id,
                instance_uuid=str(uuid.uuid4()) if number else server.id,
                attach_status='attached',
            )
            if not number:
                cloud.nova.add_attachment(
                    server.id, volume.id, attachment_id=attachment.id
                )
        yield cloud


def _gone(cloud: StubCloud) -> list[str]:
    """The ids of those volumes."""
    return [item.id for item in cloud.cinder.volumes.values()][1:]


def test_cron_writes_the_reports_and_sends_no_mail(
    tmp_path: pathlib.Path,
) -> None:
    plain, _mailing = _examples('text')
    job = Job(plain, tmp_path)
    with _cloud(1) as cloud:
        job.log_in(cloud)
        assert job.run() == ''
    assert 'volume attachments of prod' in job.page.read_text()
    metrics = (tmp_path / 'metrics/attachguard.prom').read_text()
    assert 'attachguard_audit_success{cloud="prod",region=""} 1.0' in metrics


def test_cron_mails_only_what_has_changed(tmp_path: pathlib.Path) -> None:
    _plain, mailing = _examples('text')
    mailto, line = mailing.splitlines()
    assert mailto.startswith('MAILTO=')
    job = Job(line.replace(' -f value', ' --min-age 0s -f value'), tmp_path)
    with _cloud(2) as cloud:
        job.log_in(cloud)
        # The findings are not confirmed yet.
        assert job.run() == ''
        mail = job.run()
        assert mail.count('> server-gone ') == 2
        assert ' db 1\n' in mail
        assert job.run() == ''
        last = list(cloud.cinder.attachments.values())[-1]
        cloud.cinder.remove_attachment(last.id)
        assert f'< server-gone {last.volume_id} db 2\n' in job.run()
        # A failed audit has found nothing, which does not mean that nothing
        # is wrong.
        cloud.nova.faults.add(500, None, '/servers/detail')
        assert job.run() == ''
        assert 'The audit failed' in job.page.read_text()
        cloud.nova.faults.clear()
        assert job.run() == ''


def test_the_loop_over_values_reads_ids_and_names(
    tmp_path: pathlib.Path,
) -> None:
    loop, _setup = _examples('shell')
    job = Job(_examples('text')[0], tmp_path)
    job.command = loop.replace(
        'attachguard audit --once',
        f'{sys.prefix}/bin/attachguard audit --os-cloud prod --once '
        '--settle 0s 2>/dev/null',
    )
    with _cloud(2) as cloud:
        job.log_in(cloud)
        lines = sorted(job.run().splitlines(), key=lambda text: text[-1])
        first, second = _gone(cloud)
    assert lines == [f'{first} is db 1', f'{second} is db 2']


@pytest.mark.parametrize('server', ['nginx', 'apache2'])
def test_a_web_server_can_read_the_page(
    tmp_path: pathlib.Path, server: str
) -> None:
    """As its own user, from a directory made as documented."""
    if not shutil.which(server) or os.geteuid() != 0:
        pytest.skip(f'{server} is not installed, or this is not root')
    tmp_path.chmod(0o711)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o711)
    directory = tmp_path / 'srv'
    _loop, setup = _examples('shell')
    install = setup.splitlines()[-1]
    assert install.endswith(' /srv/attachguard')
    made = install.replace('-o attachguard', '-o daemon').split()
    conftest.run([*made[:-1], directory], tmp_path)
    daemon = pwd.getpwnam('daemon')
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(daemon.pw_gid)
            os.setuid(daemon.pw_uid)
            os.umask(0o027)
            files.replace(directory / 'index.html', b'x')
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert (directory / 'index.html').stat().st_mode & 0o777 == 0o640
    with socket.create_server(('127.0.0.1', 0)) as free:
        port = free.getsockname()[1]
    (example,) = _examples(server.removesuffix('2'))
    example = example.replace('/srv/attachguard', str(directory)).replace(
        '192.0.2.0/24', '127.0.0.0/8'
    )
    conf = tmp_path / 'conf'
    if server == 'nginx':
        conf.write_text(
            f'user www-data; pid {tmp_path}/pid; daemon off;'
            f'error_log {tmp_path}/log; events {{}}\n'
            f'http {{ access_log off; server {{ listen 127.0.0.1:{port};\n'
            f'{example}\n}} }}\n'
        )
        options = ['-c']
    else:
        modules = ''.join(
            f"LoadModule {name}_module {_APACHE}/mod_{name}.so\n"
            for name in (
                *('mpm_event', 'authz_core', 'authz_host'),
                *('alias', 'dir', 'mime'),
            )
        )
        conf.write_text(
            f'{modules}ServerName localhost\nListen 127.0.0.1:{port}\n'
            f'User www-data\nGroup www-data\nPidFile {tmp_path}/pid\n'
            f'ErrorLog {tmp_path}/log\nDocumentRoot {tmp_path}\n'
            f'TypesConfig /etc/mime.types\n{example}\n'
        )
        options = ['-DFOREGROUND', '-f']
    with subprocess.Popen([server, *options, str(conf)]) as process:
        try:
            url = f'http://127.0.0.1:{port}/attachguard/'
            session = requests.Session()
            retries = adapters.Retry(total=8, backoff_factor=0.1)
            session.mount('http://', adapters.HTTPAdapter(max_retries=retries))
            response = session.get(url, timeout=30)
        finally:
            process.terminate()
    assert (response.status_code, response.text) == (200, 'x')
