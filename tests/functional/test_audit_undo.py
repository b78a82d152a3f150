# SPDX-License-Identifier: Apache-2.0

"""What a dry run of undo foresees, and what then happens.

The stub of Cinder is behind the guard, or not.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Iterator
import pathlib
import re
import typing

from oslo_config import cfg
import pytest

from attachguard.guard import middleware
from attachguard.testing import stub_cinder
from tests.functional.audit import make_scene
from tests.functional.audit import Scene

if typing.TYPE_CHECKING:
    from _typeshed import wsgi as wsgi_types


class Switch:
    """The guard in front of an application, off at first.

    :param application: the stub of Cinder
    """

    def __init__(self, application: wsgi_types.WSGIApplication) -> None:
        conf = cfg.ConfigOpts()
        conf([], default_config_files=[])
        self._off = application
        self._on = middleware.AttachGuard(application, conf)
        self.guards = False

    def __call__(
        self,
        environ: wsgi_types.WSGIEnvironment,
        start_response: wsgi_types.StartResponse,
    ) -> Iterable[bytes]:
        chosen = self._on if self.guards else self._off
        return chosen(environ, start_response)


class Undo(Scene):
    """A cloud, and the undo of a repair there."""

    switch: Switch

    def repaired(self) -> str:
        """Repair what is found, without the guard; return the journal."""
        self.switch.guards = False
        assert self.repair('--yes').code == 4
        state = self.directory / 'state' / 'attachguard'
        return str(max(state.glob('repair-*.jsonl')))

    def foreseen(self, journal: str) -> str:
        """What a dry run says, which changes nothing."""
        self.cloud.cinder_server.forget()
        before = self.records()
        ran = self.run('undo', journal, '-f', 'json')
        assert (ran.code, ran.rows[0]['Result']) == (3, 'planned')
        assert self.written() == []
        assert self.records() == before
        return str(ran.rows[0]['Text'])

    def undone(self, journal: str) -> tuple[str, str]:
        """Undo it; return the result and the text."""
        (row,) = self.run('undo', journal, '--yes', '-f', 'json').rows
        return row['Result'], row['Text']


@pytest.fixture
def undo(
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Undo]:
    switches: list[Switch] = []

    def guarded(
        application: wsgi_types.WSGIApplication,
    ) -> wsgi_types.WSGIApplication:
        switches.append(Switch(application))
        return switches[0]

    for scene in make_scene(tmp_path, capsys, monkeypatch, guarded):
        made = Undo(scene.cloud, scene.directory, capsys, monkeypatch)
        (made.switch,) = switches
        yield made


def log_in(undo: Undo, *roles: str) -> None:
    """Log in as an operator with roles in the project of services."""
    name = '-'.join(roles)
    undo.cloud.keystone.add_user(name, name, 'service', roles)
    undo.log_in('nova', username=name, password=name, project_name='service')


def attached(undo: Undo) -> stub_cinder.Volume:
    return undo.forged()


def reserved(undo: Undo) -> stub_cinder.Volume:
    volume = undo.volume()
    undo.record(volume, undo.server().id, attach_status='reserved')
    return volume


def stuck(undo: Undo) -> stub_cinder.Volume:
    return undo.volume(status='attaching')


# What is repaired, and what the guard refuses of its undo.
KINDS = [
    (attached, 'attachment-create and attachment-complete'),
    (reserved, 'attachment-create'),
    (stuck, ''),
]


@pytest.mark.parametrize(('make', 'refused'), KINDS)
@pytest.mark.parametrize('guards', [False, True])
def test_an_administrator_is_refused_only_what_is_foreseen(
    undo: Undo, make: typing.Any, refused: str, guards: bool
) -> None:
    volume = make(undo)
    was = volume.status
    journal = undo.repaired()
    text = undo.foreseen(journal)
    mine = 'these credentials (roles admin, manager, member, reader)'
    assert mine in text
    if refused:
        assert (
            f'attachguard, where it guards Cinder, refuses {refused}. It '
            'works as a user with the roles admin and service'
        ) in text
    else:
        assert f'nothing of this is refused to {mine}' in text
    undo.switch.guards = guards
    result, text = undo.undone(journal)
    if refused and guards:
        assert result == 'failed'
        assert 'HTTP 403' in text
        assert 'as a user with the roles admin and service' in text
        assert volume.status == 'available'
    else:
        assert (result, volume.status) == ('undone', was)


@pytest.mark.parametrize(('make', '_refused'), KINDS)
def test_a_service_that_is_an_administrator_is_refused_nothing(
    undo: Undo, make: typing.Any, _refused: str
) -> None:
    volume = make(undo)
    was = volume.status
    journal = undo.repaired()
    undo.switch.guards = True
    log_in(undo, 'admin', 'service')
    text = undo.foreseen(journal)
    assert re.search(
        r'nothing of this is refused to these credentials \(roles admin, .*'
        'service',
        text,
    )
    assert undo.undone(journal)[0] == 'undone'
    assert volume.status == was


def test_a_member_is_refused_what_cinder_leaves_to_administrators(
    undo: Undo,
) -> None:
    volume = stuck(undo)
    journal = undo.repaired()
    undo.log_in('member')
    text = undo.foreseen(journal)
    assert '(roles member, reader), Cinder refuses os-reset_status' in text
    assert 'It works as a user with the role admin' in text
    result, text = undo.undone(journal)
    assert result == 'failed'
    assert 'HTTP 403' in text
    assert volume.status == 'available'
