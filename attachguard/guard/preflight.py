# SPDX-License-Identifier: Apache-2.0

"""Checks before the guard is switched on: is this cloud ready for it?

Each check is a function from what is configured to a :class:`Finding`, which
says what to do.  Nothing is changed, and only Nova is queried, only if
credentials for it are configured.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import configparser
import dataclasses
import enum
import pathlib

from oslo_config import cfg
from oslo_utils import strutils

from attachguard import opts
from attachguard.guard import default_rules
from attachguard.guard import paste_file
from attachguard.guard import policy
from attachguard.guard import service_config
from attachguard.nova import client as nova_client


class Result(enum.Enum):
    """The result of a check."""

    OK = 'ok'
    UNKNOWN = 'unknown'
    WRONG = 'wrong'


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a check found.

    :param check: the subject of the check
    :param result: its result
    :param text: what was found, and what to do about it
    """

    check: str
    result: Result
    text: str


def run(
    conf: cfg.ConfigOpts,
    paste_ini: pathlib.Path | None,
    nova_confs: Sequence[pathlib.Path],
) -> Iterator[Finding]:
    """Run all checks.

    :param conf: Cinder's configuration, loaded
    :param paste_ini: its paste file, or None if none was found
    :param nova_confs: configuration files of Nova's processes
    """
    try:
        yield from pipelines(paste_ini)
        opts.configure(conf, service_config.filter_options(paste_ini))
        rules = policy.Policy(conf)
        nova = nova_client.Nova(conf)
    except opts.ConfigError as exc:
        yield Finding('configuration', Result.WRONG, str(exc))
        return
    yield configuration(conf)
    yield authentication(conf)
    yield credentials(nova)
    yield region(nova)
    yield service_tokens(rules, nova_confs)


def configuration(conf: cfg.ConfigOpts) -> Finding:
    """Check what was read, and report what the filter will do.

    :param conf: as for :func:`run`, with the guard's options
    """
    check = 'configuration'
    if not conf.config_file:
        return Finding(
            check,
            Result.WRONG,
            'no cinder.conf was found: name it with --config-file',
        )
    does = 'refuses' if conf[opts.GROUP].enforce else 'only logs (shadow mode)'
    section = opts.auth_section(conf)
    nova_auth = (
        f'the credentials of [{section}]' if section else "the caller's token"
    )
    return Finding(
        check,
        Result.OK,
        f'{", ".join(conf.config_file)} and the rules can be loaded; the '
        f'filter {does}; for Nova it uses {nova_auth}',
    )


def authentication(conf: cfg.ConfigOpts) -> Finding:
    """Check that callers are authenticated.

    :param conf: as for :func:`run`, with the guard's options, and Cinder's
        own ``auth_strategy``
    """
    check = 'authentication'
    if conf.auth_strategy != 'keystone':
        return Finding(
            check,
            Result.WRONG,
            f'Cinder runs the pipeline {conf.auth_strategy} ([DEFAULT] '
            'auth_strategy), which authenticates nobody',
        )
    if conf[opts.GROUP].auth_strategy != 'keystone':
        return Finding(
            check,
            Result.WRONG,
            f'[{opts.GROUP}] auth_strategy lets every caller claim to be a '
            'service: remove it',
        )
    return Finding(check, Result.OK, 'auth_token authenticates the callers')


def pipelines(paste_ini: pathlib.Path | None) -> Iterator[Finding]:
    """Check the place of the filter in each pipeline.

    :param paste_ini: as for :func:`run`
    """
    if paste_ini is None:
        yield Finding(
            'pipeline',
            Result.WRONG,
            'there is no api-paste.ini: name it with --paste-ini',
        )
        return
    config = paste_file.read(paste_ini)
    filters = set(paste_file.filters(config))
    found = False
    for section in config.sections():
        for name, value in config.items(section):
            words = value.split()
            if 'authtoken' not in words or name in ('use', 'paste'):
                continue
            found = True
            yield _pipeline(f'pipeline {name}', words, filters, config)
    if not found:
        yield Finding(
            'pipeline',
            Result.WRONG,
            f'{paste_ini} has no pipeline with authtoken in it',
        )


def _pipeline(
    check: str,
    words: list[str],
    filters: set[str],
    config: configparser.RawConfigParser,
) -> Finding:
    for word in words:
        if not any(
            config.has_section(f'{kind}:{word}') for kind in ('filter', 'app')
        ):
            return Finding(
                check, Result.WRONG, f'there is no section for {word}'
            )
    places = [place for place, word in enumerate(words) if word in filters]
    if not places:
        return Finding(
            check,
            Result.WRONG,
            f'the filter is not in it; put it before {words[-1]} (by a '
            f'section with paste.filter_factory = {paste_file.FACTORY})',
        )
    if len(places) > 1:
        return Finding(check, Result.WRONG, 'the filter is in it twice')
    before = words[: places[0]]
    if 'authtoken' not in before or 'keystonecontext' not in before:
        return Finding(
            check,
            Result.WRONG,
            'the filter is before authtoken or keystonecontext, where it '
            f'cannot identify the caller; put it before {words[-1]}',
        )
    if places[-1] != len(words) - 2:
        return Finding(
            check,
            Result.WRONG,
            'another filter is behind it, and receives its reads of Cinder; '
            f'put it right before {words[-1]}',
        )
    return Finding(check, Result.OK, f'the filter is right before {words[-1]}')


def credentials(nova: nova_client.Nova) -> Finding:
    """Check that the guard's credentials see every project's servers.

    :param nova: the guard's own client
    """
    check = 'queries to Nova'
    if nova.visibility is nova_client.Visibility.CALLER:
        return Finding(
            check,
            Result.UNKNOWN,
            'as the caller: a server that Nova does not show counts as '
            'unknown, so that an owner cannot clear a stale attachment that '
            'was connected to a host; set [nova] auth_type',
        )
    try:
        nova.check_visibility()
    except nova_client.Unknown as exc:
        return Finding(check, Result.WRONG, exc.detail)
    if nova.visibility is nova_client.Visibility.EVERY_PROJECT:
        return Finding(
            check, Result.OK, "the credentials see every project's servers"
        )
    return Finding(
        check,
        Result.WRONG,
        "the credentials do not see other projects' servers, so a server that "
        'Nova does not show counts as unknown; the role service is not '
        'enough: give the user the role admin',
    )


def region(nova: nova_client.Nova) -> Finding:
    """Check that the queries go to one known region.

    :param nova: the guard's own client
    """
    check = 'region'
    try:
        regions = nova.unchosen_regions()
    except nova_client.Unknown as exc:
        return Finding(check, Result.UNKNOWN, exc.detail)
    if regions:
        return Finding(
            check,
            Result.WRONG,
            f'the catalog has Nova in {", ".join(regions)}: set [nova] '
            'region_name to the region of this Cinder',
        )
    return Finding(check, Result.OK, 'Nova is in one region, or it is chosen')


def service_tokens(
    rules: policy.Policy, nova_confs: Sequence[pathlib.Path]
) -> Finding:
    """Find out which of the two sets of rules this cloud needs.

    :param rules: the rules in force
    :param nova_confs: as for :func:`run`
    """
    check = 'service tokens'
    option = '[service_user] send_service_user_token'
    if not nova_confs:
        return Finding(
            check,
            Result.UNKNOWN,
            f'only nova.conf shows whether Nova sends them ({option}): name '
            'the one of each kind of node (API, conductor, compute) with '
            '--nova-conf',
        )
    try:
        without = [path for path in nova_confs if not _sends_token(path)]
    except opts.ConfigError as exc:
        return Finding(check, Result.WRONG, str(exc))
    preset = default_rules.NO_SERVICE_TOKEN.items()
    # What is open without the preset stays open with it.
    missing = [rule for rule in preset if not rules.equals(*rule)]
    if without and missing:
        return Finding(
            check,
            Result.WRONG,
            f'{option} is not true, or without auth_type, in '
            f'{", ".join(map(str, without))}: set it, or use '
            'attachguard-policy.no-service-token.yaml.sample as the policy '
            'file; otherwise Nova itself is refused',
        )
    if without:
        return Finding(
            check,
            Result.OK,
            'Nova does not send them everywhere, and the rules allow for it',
        )
    if not missing:
        return Finding(
            check,
            Result.UNKNOWN,
            'Nova sends them, and the rules are those for a Nova that does '
            'not: they could be stricter',
        )
    return Finding(check, Result.OK, f'Nova sends them ({option} is true)')


def _sends_token(path: pathlib.Path) -> bool:
    config = paste_file.read(path)
    if not config.has_section('service_user'):
        return False
    section = config['service_user']
    # Without a user to get it for, Nova warns, and sends none.
    return bool(
        strutils.bool_from_string(section.get('send_service_user_token', ''))
    ) and bool({'auth_type', 'auth_plugin', 'auth_section'} & set(section))
