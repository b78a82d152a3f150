# SPDX-License-Identifier: Apache-2.0

"""What to do about a finding, as a shell script for a person.

Pure functions.  A script says what it risks and what to check before, in
comments; its commands are complete, and each runs only if the one before it
succeeded.  No script makes a server lose a disk: a server that has what
Cinder does not have gets a new attachment (``nova-manage volume_attachment
refresh``), and is never rebooted hard, because Nova then drops each of its
disks that Cinder does not have, the root disk included.
"""

from __future__ import annotations

from collections.abc import Iterator
import dataclasses
import shlex
import textwrap

from attachguard.audit import model
from attachguard.audit.collect import api
from attachguard.audit.repair import plan
from attachguard.guard import cinder

# Where the scripts expect the connector of the server's host.
_CONNECTOR = 'connector.json'
# The SQL that removes mappings of Nova's, without the condition.
_UNMAP = (
    'UPDATE block_device_mapping SET deleted = id, deleted_at = NOW() WHERE'
)
# Of a mapping: that its server is deleted.
_IF_DELETED = (
    ' AND NOT EXISTS (SELECT 1 FROM instances WHERE instances.uuid = '
    'block_device_mapping.instance_uuid AND instances.deleted = 0)'
)
# Seconds that a guest may take to stop.
_STOP_TIMEOUT = 600
_WIDTH = 78
# Starts a command in the comments, which a person chooses, or runs elsewhere:
# it has a line of its own, to be copied.
_COMMAND = '    '

# The statuses of a server from which it can be stopped, or is stopped.
_RUNS, _STOPPED = 'ACTIVE', 'SHUTOFF'

# The statuses in which Cinder creates another attachment for the same server.
_OPEN = ('available', 'in-use', 'reserved')


@dataclasses.dataclass(frozen=True)
class Shell:
    """How to write the clients' commands.

    :param login: the options that name the cloud
    :param audit: those that a repair needs, so that it sees what the audit saw
    """

    login: tuple[str, ...] = ()
    audit: tuple[str, ...] = ()

    def openstack(self, *words: str, version: str = '') -> str:
        """A command of python-openstackclient.

        :param version: the microversion of the Block Storage API
        """
        options = ('--os-volume-api-version', version) if version else ()
        return shlex.join(('openstack', *self.login, *options, *words))

    def repair(self, volume_id: str, *words: str) -> str:
        """``attachguard repair`` of a volume."""
        return shlex.join(
            (
                'attachguard',
                'repair',
                *self.login,
                *self.audit,
                '--volume',
                volume_id,
                *words,
            )
        )

    def delete(self, attachment_id: str) -> str:
        """The deletion of an attachment."""
        return self.openstack(
            *('volume', 'attachment', 'delete', attachment_id),
            version=api.VOLUME_VERSION,
        )


#: For a cloud that the environment names.
PLAIN = Shell()


def script(planned: plan.Plan, case: model.Case, shell: Shell) -> str:
    """Return what to do about a finding.

    :param planned: how it can be repaired
    :param case: the volume
    :param shell: how to write commands
    :returns: a shell script; comments only where no command is safe
    """
    if planned.steps:
        return shell.repair(case.volume_id, '--yes')
    comments, commands = _by_hand(planned, case, shell)
    lines = [line for text in comments for line in _comment(text)]
    return '\n'.join([*lines, ' &&\n'.join(commands)]).rstrip()


def _comment(text: str) -> list[str]:
    """Return the lines of a comment; a command stays whole."""
    if text.startswith(_COMMAND):
        return [f'#{text}']
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent='# ',
        subsequent_indent='# ',
        break_long_words=False,
        break_on_hyphens=False,
    )


def _by_hand(
    planned: plan.Plan, case: model.Case, shell: Shell
) -> tuple[list[str], list[str]]:
    """Return comments and commands."""
    server = case.servers.get(planned.server_id or '')
    if planned.manual is plan.Manual.REMAKE and server is not None:
        return _remake(case, server, shell)
    if planned.manual is plan.Manual.DROP and server is not None:
        return _drop(case, server, shell)
    comments = [f'Not repaired: {planned.why_not}.']
    if planned.manual is plan.Manual.UNMAP and server is not None:
        return [*comments, *_remove_mapping(case, server)], []
    if planned.manual is plan.Manual.UNMAP_DELETED and server is not None:
        return [*comments, *_remove_leftovers(case, server)], []
    if planned.manual is plan.Manual.GIVE_AWAY and case.volume:
        more, commands = _give_away(case, case.volume, shell)
        return [*comments, *more], commands
    if planned.manual is plan.Manual.END_OPERATION and case.volume:
        return [*comments, *_end_operation(case.volume)], []
    if planned.manual is plan.Manual.DELETE and planned.attachment_id:
        return (
            [*comments, 'When you have checked that, delete the attachment:'],
            [shell.delete(planned.attachment_id)],
        )
    if planned.manual is plan.Manual.SQL:
        words = ('--execute-sql', '--cinder-conf', '/etc/cinder/cinder.conf')
        return (
            [
                *comments,
                'The API cannot repair it. Where cinder.conf is, with --sql '
                'instead of --yes --execute-sql, this prints the SQL first:',
            ],
            [shell.repair(case.volume_id, '--yes', *words)],
        )
    return comments, []


def _remake(
    case: model.Case, server: model.Server, shell: Shell
) -> tuple[list[str], list[str]]:
    """Give a server that has a volume a new attachment in Cinder.

    Tried on data and root disks: the guest keeps its disk.
    """
    comments = list(_no_reboot(server))
    why_not = _cannot_remake(case, server)
    if why_not:
        return [*comments, why_not], []
    volume = case.volume
    own = [a for a in case.of(server.id) if a.id == server.attachment_id]
    commands = [f'test -s {_CONNECTOR}']
    runs = server.status == _RUNS
    if runs:
        commands += [
            shell.openstack('server', 'stop', server.id),
            _wait(server.id, shell),
        ]
    stale = _stale(case)
    renamed = [
        item
        for item in case.attachments
        if item.id == server.attachment_id and item.server_id != server.id
    ]
    mine = [item for item in stale if item.server_id == server.id] + renamed
    kept = set(case.attachments) - set(stale) - set(renamed)
    drop = not (own or kept or case.foreign)
    commands += [
        shell.delete(item.id) for item in stale if not (drop and item in mine)
    ]
    if drop and (mine or not stale):
        # The guard protects the only attachment of a server that has it.
        commands.append(
            shell.openstack(
                *('volume', 'set', '--state', 'available', '--detached'),
                case.volume_id,
            )
        )
    if own and volume is not None and volume.status not in _OPEN:
        commands.append(
            shell.openstack(
                *('volume', 'set', '--state', 'in-use', case.volume_id)
            )
        )
    commands.append(
        shlex.join(
            (
                *('nova-manage', 'volume_attachment', 'refresh'),
                *(server.id, case.volume_id, _CONNECTOR),
            )
        )
    )
    if runs:
        commands.append(shell.openstack('server', 'start', server.id))
    return [
        'Give the server a new attachment; it keeps the disk.'
        + (' Disruptive: the server is stopped and started.' if runs else ''),
        *comments,
        f'First, on its compute host {server.host or "(unknown)"}, run this, '
        f'and save the output as {_CONNECTOR} here, where nova-manage and '
        'nova.conf are. Check that nothing else uses the volume.',
        f'{_COMMAND}nova-manage volume_attachment get_connector --json',
    ], commands


def _drop(
    case: model.Case, server: model.Server, shell: Shell
) -> tuple[list[str], list[str]]:
    """Let Nova drop a volume that Cinder does not have any more."""
    if server.may_boot_from_it:
        return [
            'The volume is, or may be, the root disk of server '
            f'{server.id}. Nothing brings it back. Do not reboot the server '
            'hard: Nova would drop the disk, and the server could not be '
            'rebuilt. Save what still runs, and restore a backup.'
        ], []
    if server.disks is None:
        return [
            f'The other volumes of server {server.id} are unknown. Do not '
            'reboot it hard: Nova drops each volume that Cinder does not '
            'have. Run the audit again.'
        ], []
    lost = sorted(
        disk.volume_id
        for disk in server.disks
        if disk.volume_id != case.volume_id and not disk.in_cinder
    )
    if lost:
        return [
            f'Do not reboot server {server.id} hard yet: Nova would also drop '
            f'{", ".join(lost)}, which Cinder does not have on it. Repair '
            'these first, and run the audit again.'
        ], []
    if server.attachment_id is None:
        return [
            'Nova has no attachment id of the volume, so a reboot does not '
            "drop it. On the server's cell database, while the server is "
            'stopped, run:',
            _COMMAND + _unmap(server.id, case.volume_id),
        ], []
    return [
        'Disruptive: the server is reset. Nova then drops the volume, which '
        'Cinder does not have any more. Its other volumes were checked: it '
        'keeps them.'
    ], [shell.openstack('server', 'reboot', '--hard', server.id)]


def _end_operation(volume: model.Volume) -> Iterator[str]:
    yield (
        'See in the logs of cinder-volume and cinder-backup whether it still '
        'works. If it does not, set the status that fits the attachments, '
        'and run the audit again:'
    )
    if (volume.migration_status or '').startswith('target:'):
        source = (volume.migration_status or '').partition(':')[2]
        yield (
            f'It is the target of the migration of volume {source}. If that '
            'one does not need it any more:'
        )
        yield f'{_COMMAND}openstack volume delete --force {volume.id}'
        return
    if volume.migration_status not in cinder.NOT_MIGRATING:
        yield (
            f'{_COMMAND}cinder reset-state --reset-migration-status '
            f'{volume.id}'
        )
        yield (
            'Then delete its target, a volume with the migration status '
            f'target:{volume.id}.'
        )
    if volume.status in cinder.STATUSES_OF_WORK:
        yield f'{_COMMAND}openstack volume set --state in-use {volume.id}'
        yield 'Or, without attachments:'
        yield f'{_COMMAND}openstack volume set --state available {volume.id}'


def _remove_mapping(case: model.Case, server: model.Server) -> Iterator[str]:
    """Return how to remove one of two mappings of a server."""
    own = [item.id for item in case.of(server.id)]
    yield (
        f'Nova has the volume {server.mappings} times on server {server.id}. '
        'Stop the server, and find the mappings in the database of its cell:'
    )
    yield (
        f'{_COMMAND}SELECT id, attachment_id, device_name, '  # noqa: S608
        'created_at FROM block_device_mapping WHERE '
        f'{_mapping(server.id, case.volume_id)};'
    )
    if len(own) == 1:
        yield f'Remove the one that Cinder does not have, not {own[0]}:'
    yield f'{_COMMAND}{_UNMAP} id = ID;'


def _remove_leftovers(case: model.Case, server: model.Server) -> Iterator[str]:
    """Return how to remove the mappings of a deleted server."""
    yield (
        'Not disruptive: no server uses the mapping. On the database of the '
        f'cell of server {server.id}{f", {server.cell}" * bool(server.cell)}, '
        'run this. It changes nothing if Nova has the server again:'
    )
    yield _COMMAND + _unmap(server.id, case.volume_id, _IF_DELETED)
    yield f'It has to change {server.leftovers} row(s).'


def _give_away(
    case: model.Case, volume: model.Volume, shell: Shell
) -> tuple[list[str], list[str]]:
    """Give the volume of a deleted project to another one, or delete it."""
    delete = shell.openstack('volume', 'delete', '--purge', volume.id)
    for server in case.servers.values():
        if plan.may_have_volume(server):
            remove = shell.openstack('server', 'remove', 'volume')
            return [
                f'Server {server.id} has the volume, or may have it, and may '
                'belong to that project, too. First find out who needs the '
                'server. Then detach the volume (disruptive: the server loses '
                'this disk), and run the audit again:',
                f'{_COMMAND}{remove} {server.id} {volume.id}',
            ], []
    if case.attachments or case.foreign or volume.status != 'available':
        return [
            f'The volume is {volume.status}, with '
            f'{len(case.attachments) + len(case.foreign)} attachments, and '
            'Cinder transfers only what is available. First repair what else '
            'is found of it, if anything, and run the audit again.',
            'Or, if nobody needs it, and Cinder does not refuse it, delete it '
            'with its snapshots. Nothing brings it back:',
            f'{_COMMAND}{delete}',
        ], []
    return [
        'If somebody needs it, the command below offers it to another '
        'project, and prints an id and a key. With these, a member of that '
        'project accepts it:',
        f'{_COMMAND}openstack volume transfer request accept '
        '--auth-key KEY ID',
        'Or, if nobody needs it, delete it with its snapshots, in place of '
        'the command below. Nothing brings it back:',
        f'{_COMMAND}{delete}',
    ], [shell.openstack('volume', 'transfer', 'request', 'create', volume.id)]


def _unmap(server_id: str, volume_id: str, condition: str = '') -> str:
    """Return the SQL that removes a volume from a server of Nova's."""
    return f'{_UNMAP} {_mapping(server_id, volume_id)}{condition};'


def _mapping(server_id: str, volume_id: str) -> str:
    """Return the condition for the mappings of a volume on a server."""
    # Ids of Nova's and Cinder's, which are UUIDs.
    return (
        f"instance_uuid = '{server_id}' AND volume_id = '{volume_id}' "
        'AND deleted = 0'
    )


def _no_reboot(server: model.Server) -> Iterator[str]:
    if server.attachment_id is None:
        yield (
            'A hard reboot changes nothing here: Nova has no attachment id '
            'of the volume.'
        )
        return
    yield (
        f'Do not reboot server {server.id} hard: Nova would drop the disk'
        + (
            ', which is or may be its root disk, and the server would be lost.'
            if server.may_boot_from_it
            else '.'
        )
    )


def _cannot_remake(case: model.Case, server: model.Server) -> str:
    """Return why a new attachment cannot be made; empty if it can."""
    volume = case.volume
    shared = volume is not None and volume.multiattach
    for other in case.servers.values():
        if other.id == server.id or not plan.may_have_volume(other):
            continue
        if not shared and other.presence is model.Presence.HAS:
            return (
                f'The servers {server.id} and {other.id} both write to the '
                'volume, which is not multiattach: it is being damaged. Stop '
                'one of them at once, and find out which has the right data.'
            )
        if not shared:
            return f'First find out whether server {other.id} has the volume.'
    if case.foreign and not shared:
        return (
            'The volume has an attachment that Nova did not make. First find '
            'out who uses it.'
        )
    if server.status not in (_RUNS, _STOPPED):
        return (
            f'Server {server.id} is {server.status}. Bring it to {_RUNS} or '
            f'{_STOPPED}, and run the audit again.'
        )
    return ''


def _stale(case: model.Case) -> list[model.Attachment]:
    """Return the attachments that no server has."""
    kept = {
        server.attachment_id
        for server in case.servers.values()
        if server.presence is model.Presence.HAS
    }
    legacy = {
        server.id
        for server in case.servers.values()
        if server.presence is model.Presence.HAS
        and server.attachment_id is None
    }
    return [
        item
        for item in case.attachments
        if item.id not in kept and item.server_id not in legacy
    ]


def _wait(server_id: str, shell: Shell) -> str:
    show = shell.openstack(
        *('server', 'show', '-f', 'value', '-c', 'status'), server_id
    )
    loop = f'until {show} | grep -qx {_STOPPED}; do sleep 5; done'
    return shlex.join(('timeout', str(_STOP_TIMEOUT), 'sh', '-c', loop))
