# SPDX-License-Identifier: Apache-2.0
"""The tools, and what is checked of the files that they write."""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import contextlib
import dataclasses
import os
import pathlib
import re
import subprocess
import sys
import time

from oslo_config import cfg
import pytest

from attachguard import opts
from attachguard.guard import preflight

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = pathlib.Path(
    os.environ.get('ATTACHGUARD_DEPLOY_TOOLS', ROOT / '.venv-deploy')
)
#: As Cinder installs it.
CINDERS_PASTE_INI = pathlib.Path(sys.prefix, 'etc/cinder/api-paste.ini')


def run(
    command: Sequence[str | pathlib.Path],
    cwd: pathlib.Path,
    **variables: str,
) -> str:
    """Run a program that must succeed.

    :returns: what it printed
    """
    done = subprocess.run(
        command,
        cwd=cwd,
        env={
            **os.environ,
            'PATH': f'{TOOLS}/bin:{os.environ["PATH"]}',
            'LC_ALL': 'C.UTF-8',
            **variables,
        },
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@dataclasses.dataclass
class Started:
    """A program that runs.

    :param log: the file with its output
    """

    log: pathlib.Path

    def wait_for(self, pattern: str, seconds: float = 30) -> list[str]:
        """Wait until the output matches.

        :returns: the groups of the pattern
        """
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            match = re.search(pattern, self.log.read_text())
            if match:
                return list(match.groups())
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())


@contextlib.contextmanager
def started(
    command: Sequence[str | pathlib.Path], log: pathlib.Path
) -> Iterator[Started]:
    """Run a program while the test uses it.

    :param log: the file for its output
    """
    with log.open('w') as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Started(log)
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.fixture(scope='session')
def tools() -> pathlib.Path:
    """The environment of the tools."""
    if not (TOOLS / 'bin').exists():
        pytest.skip('no deployment tools: run "make deploy"')
    return TOOLS


def check_paste_ini(path: pathlib.Path) -> None:
    """Check that the filter is at its place in both pipelines."""
    found = {
        finding.check: finding.result for finding in preflight.pipelines(path)
    }
    assert found == {
        'pipeline keystone': preflight.Result.OK,
        'pipeline keystone_nolimit': preflight.Result.OK,
    }


def check_cinder_conf(path: pathlib.Path) -> None:
    """Check that the guard loads in shadow mode with a configuration."""
    conf = cfg.ConfigOpts()
    conf([], project='cinder', default_config_files=[str(path)])
    opts.configure(conf, {})
    assert conf.attachguard.enforce is False
    assert not list(preflight.sections(conf))
