# SPDX-License-Identifier: Apache-2.0

"""Choose what each release of Cinder is tested with.

For each release, one file of tools/releases: the last point release of
Cinder, and of everything else that it and attachguard need the newest that
was on PyPI a week after the release came out. That is what a cloud of that
time was installed with, and without these pins an old Cinder does not even
load. With the oldest release, whatever attachguard itself requires is the
oldest that it says it takes: so its lower bounds are what passes.

A new release of OpenStack, a new point release of Cinder, or another bound in
requirements.txt or pyproject.toml: change the table in this file, or the
bound, and run it. Needs uv, and a PyPI that tells when a file was uploaded.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import pathlib
import re
import subprocess
import sys
import tomllib

_ROOT = pathlib.Path(__file__).parents[1]
DIRECTORY = _ROOT / 'tools' / 'releases'

# The newest on which every release here runs.
PYTHON = '3.11'
# Of attachguard's own, what the tests use.
_EXTRAS = ('audit', 'demo', 'sql', 'statsd', 'testing')
# Of test-requirements.txt, what these tests use.
_TESTERS = re.compile(r'(fixtures|hypothesis|packaging|pytest)\b')
# No cloud is installed with pytest, which pyproject.toml configures as it is
# today, or for the demo.
_NOT_AS_OF_THEN = (
    'cinder',
    'hypothesis',
    'pluggy',
    'prettytable',
    'pytest',
)


@dataclasses.dataclass(frozen=True)
class Release:
    """A release of OpenStack.

    :param name: as OpenStack calls it
    :param cinder: the last point release of its Cinder
    :param came_out: when X.0.0 of that Cinder did
    :param caps: of what was on PyPI by then, what its Cinder does not work
        with
    """

    name: str
    cinder: str
    came_out: datetime.date
    caps: tuple[str, ...] = ()

    @property
    def number(self) -> str:
        """The first part of Cinder's version, by which the files go."""
        return self.cinder.partition('.')[0]

    @property
    def pins(self) -> pathlib.Path:
        """The file that names what it is tested with."""
        return DIRECTORY / f'cinder-{self.number}.txt'

    @property
    def as_of(self) -> datetime.date:
        """The day of which everything but Cinder is."""
        return self.came_out + datetime.timedelta(weeks=1)


# The oldest comes first.
RELEASES = (
    Release('2023.1', '22.3.0', datetime.date(2023, 3, 22), ('SQLAlchemy<2',)),
    Release('2024.1', '24.5.0', datetime.date(2024, 4, 3), ('SQLAlchemy<2',)),
    Release('2025.1', '26.3.0', datetime.date(2025, 4, 2)),
    Release('2026.1', '28.0.0', datetime.date(2026, 4, 1)),
    Release('2026.2', '29.0.0', datetime.date(2026, 9, 30)),
)


def _header(release: Release) -> str:
    return f"""\
# OpenStack {release.name}: Cinder {release.cinder}, and everything else as
# of {release.as_of}. Written by tools/make_release_pins.py, which says why.
"""


def _wanted(release: Release) -> str:
    testing = (_ROOT / 'test-requirements.txt').read_text()
    project = tomllib.loads((_ROOT / 'pyproject.toml').read_text())['project']
    return '\n'.join(
        [
            (_ROOT / 'requirements.txt').read_text(),
            *(
                requirement
                for extra in _EXTRAS
                for requirement in project['optional-dependencies'][extra]
                if not requirement.startswith('attachguard[')
            ),
            f'cinder=={release.cinder}',
            *release.caps,
            *filter(_TESTERS.match, testing.splitlines()),
        ]
    )


def choose(release: Release, uv: str) -> str:
    """Choose what a release is tested with.

    :param uv: the command
    :returns: the text of its file
    :raises subprocess.CalledProcessError: if there is no such choice; uv has
        said why
    """
    exempt = [
        f'--exclude-newer-package={name}=false' for name in _NOT_AS_OF_THEN
    ]
    resolution = 'lowest-direct' if release is RELEASES[0] else 'highest'
    completed = subprocess.run(
        [
            uv,
            'pip',
            'compile',
            '--quiet',
            '--no-header',
            '--no-annotate',
            # What this machine has or is told elsewhere decides nothing.
            '--no-config',
            f'--resolution={resolution}',
            '--default-index=https://pypi.org/simple',
            f'--python-version={PYTHON}',
            f'--exclude-newer={release.as_of}T00:00:00Z',
            *exempt,
            '-',
        ],
        input=_wanted(release),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return _header(release) + completed.stdout


def main(arguments: list[str] | None = None) -> int:
    """The command.

    :returns: the exit code
    """
    description, _, more = (__doc__ or '').partition('\n')
    parser = argparse.ArgumentParser(
        description=description,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--cinder',
        action='append',
        choices=[release.number for release in RELEASES],
        help='only of this release; may be repeated',
    )
    parser.add_argument('--uv', default='uv', help='the command')
    options = parser.parse_args(arguments)
    for release in RELEASES:
        if not options.cinder or release.number in options.cinder:
            release.pins.write_text(choose(release, options.uv))
            print(release.pins.relative_to(_ROOT))
    return 0


if __name__ == '__main__':
    sys.exit(main())
