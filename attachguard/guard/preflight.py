# SPDX-License-Identifier: Apache-2.0

"""Checks before the guard is switched on: is this cloud ready for it?

Each check is a function from what is configured to a :class:`Finding`, which
says what to do.  Nothing is changed.  Nova is queried with the credentials of
the guard or, if it queries Nova as the caller, with those of
``[keystone_authtoken]``; on request also with those of a user.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Sequence
import configparser
import dataclasses
import enum
import os
import pathlib

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import identity
from keystoneauth1 import loading
from keystoneauth1 import session as ksa_session
from keystoneauth1.identity import access
from oslo_config import cfg
from oslo_policy import opts as policy_opts
from oslo_utils import strutils
import yaml

from attachguard import messages
from attachguard import opts
from attachguard.guard import checks
from attachguard.guard import decision_log
from attachguard.guard import default_rules
from attachguard.guard import paste_file
from attachguard.guard import policy
from attachguard.guard import prometheus
from attachguard.guard import rollout
from attachguard.guard import service_config
from attachguard.nova import client as nova_client

_AS_CALLER = 'queries as the caller'
_AS_USER = 'queries as a user'


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
    cloud: str | None = None,
) -> Iterator[Finding]:
    """Run all checks.

    :param conf: Cinder's configuration, loaded
    :param paste_ini: its paste file, or None if none was found
    :param nova_confs: configuration files of Nova's processes
    :param cloud: whose user queries Nova, too: its name in clouds.yaml, or
        empty for the environment; None for no user
    """
    try:
        yield from pipelines(paste_ini)
        yield from sections(conf)
        opts.configure(conf, service_config.filter_options(paste_ini))
    except opts.ConfigError as exc:
        yield Finding('configuration', Result.WRONG, str(exc))
        return
    yield configuration(conf)
    yield counters(conf)
    yield cinders_policy(conf)
    yield authentication(conf)
    try:
        rules = policy.Policy(conf)
    except opts.ConfigError as exc:
        yield Finding('policy', Result.WRONG, str(exc))
    else:
        yield Finding('policy', Result.OK, 'the rules can be loaded')
        yield service_tokens(rules, nova_confs)
    try:
        nova = nova_client.Nova(conf)
    except opts.ConfigError as exc:
        yield Finding('queries to Nova', Result.WRONG, str(exc))
        return
    yield credentials(nova)
    caller = None
    if nova.visibility is not nova_client.Visibility.EVERY_PROJECT:
        try:
            caller = caller_auth(conf)
        except opts.ConfigError as exc:
            yield Finding(_AS_CALLER, Result.UNKNOWN, str(exc))
        else:
            yield as_caller(conf, nova, caller)
    if cloud is not None:
        try:
            user = user_auth(conf, cloud)
        except opts.ConfigError as exc:
            yield Finding(_AS_USER, Result.UNKNOWN, str(exc))
        else:
            yield as_user(nova, user)
    yield region(nova, caller)


def sections(conf: cfg.ConfigOpts) -> Iterator[Finding]:
    """Find sections whose name is nearly that of the guard's.

    :param conf: as for :func:`run`
    """
    for path, found in opts.read_sections(conf):
        for name in found:
            if name.lower() != opts.GROUP and messages.did_you_mean(
                name.lower(), [opts.GROUP], cutoff=0.8
            ):
                yield Finding(
                    'configuration',
                    Result.WRONG,
                    f'{path} has a section [{name}], which nobody reads; the '
                    f'filter uses its defaults and refuses: did you mean '
                    f'[{opts.GROUP}]?',
                )


def counters(conf: cfg.ConfigOpts) -> Finding:
    """Check that decisions can be counted.

    :param conf: as for :func:`run`, with the guard's options
    """
    check = 'counters'
    group = conf[opts.GROUP]
    try:
        decision_log.statsd_client(conf)
        if group.prometheus and prometheus.VARIABLE in os.environ:
            prometheus.check()
    except opts.ConfigError as exc:
        return Finding(check, Result.WRONG, str(exc))
    if group.prometheus and prometheus.VARIABLE not in os.environ:
        return Finding(
            check,
            Result.UNKNOWN,
            f'for Prometheus, if cinder-api has the environment variable '
            f'{prometheus.VARIABLE}; set it as there to check it',
        )
    names = ['Prometheus'] * group.prometheus
    if group.statsd_host:
        names.append(f'statsd on {group.statsd_host}')
    return Finding(check, Result.OK, f'are for {", ".join(names) or "nobody"}')


def cinders_policy(conf: cfg.ConfigOpts) -> Finding:
    """Check that the guard's rules are not in Cinder's own policy files.

    :param conf: as for :func:`run`
    """
    check = "Cinder's policy"
    for group, options in policy_opts.list_opts():
        conf.register_opts(options, group=group)
    names = [conf.oslo_policy.policy_file]
    for directory in conf.oslo_policy.policy_dirs:
        found = conf.find_file(directory)
        if found is not None:
            names += sorted(map(str, pathlib.Path(found).glob('*')))
    for path in filter(None, map(conf.find_file, names)):
        try:
            rules = yaml.safe_load(pathlib.Path(path).read_text('utf-8'))
        except (OSError, ValueError, yaml.YAMLError) as exc:
            return Finding(check, Result.WRONG, f'{path}: {exc}')
        wrong = [
            name
            for name, rule in (
                rules if isinstance(rules, dict) else {}
            ).items()
            if str(name).startswith(default_rules.PREFIX)
            or any(known in str(rule) for known in checks.CHECKS)
        ]
        if wrong:
            return Finding(
                check,
                Result.WRONG,
                f'{path} has rules of attachguard ({", ".join(wrong)}), which '
                f'have no effect there; move them to {_policy_file(conf)}',
            )
    return Finding(check, Result.OK, "has none of the filter's rules")


def _policy_file(conf: cfg.ConfigOpts) -> str:
    name: str = conf[opts.GROUP].policy_file
    return policy.find_file(conf) or f'{name}, beside cinder.conf'


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
    try:
        modes = rollout.Rollout(conf)
    except opts.ConfigError as exc:
        return Finding(check, Result.WRONG, str(exc))
    does = (
        'refuses'
        if modes.default is rollout.Mode.ENFORCE
        else 'only logs (shadow mode)'
    )
    if str(modes):
        does = f'{does}, except for {modes}'
    section = opts.auth_section(conf)
    nova_auth = (
        f'the credentials of [{section}]' if section else "the caller's token"
    )
    return Finding(
        check,
        Result.OK,
        f'{", ".join(conf.config_file)} can be loaded; the filter {does}; '
        f'for Nova it uses {nova_auth}',
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
            known = [name.partition(':')[2] for name in config.sections()]
            return Finding(
                check,
                Result.WRONG,
                f'there is no section for {word}'
                f'{messages.did_you_mean(word, known)}',
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
        nova.check_query(None)
        nova.check_visibility()
    except nova_client.Unknown as exc:
        return Finding(check, Result.WRONG, _explain(exc))
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


def _explain(exc: nova_client.Unknown) -> str:
    """What went wrong, and where to look."""
    if isinstance(exc.__cause__, ksa_exceptions.CatalogException):
        advice = (
            'the catalog has no such endpoint: set region_name and '
            'valid_interfaces, or endpoint_override'
        )
    elif exc.status == 401:
        advice = 'set the user, password and project'
    elif exc.status is not None:
        advice = (
            'the endpoint must be that of the Compute API with its version, '
            'as in http://nova:8774/v2.1: see endpoint_override and the '
            'catalog'
        )
    else:
        advice = (
            'check that the Compute API runs at this address, and can be '
            'reached from here'
        )
    return f'{exc.detail}; {advice}'


def caller_auth(conf: cfg.ConfigOpts) -> access.AccessInfoPlugin:
    """Get a token as auth_token has it of a caller: Cinder's own.

    :param conf: as for :func:`run`
    :returns: a plugin with the token and its catalog
    :raises attachguard.opts.ConfigError: if there is none
    """
    section = 'keystone_authtoken'
    auth = opts.load_section_auth(conf, section)
    loading.register_session_conf_options(conf, section)
    session = loading.load_session_from_conf_options(conf, section, auth=auth)
    return _log_in(conf, session, f'[{section}]')


def _log_in(
    conf: cfg.ConfigOpts, session: ksa_session.Session, who: str
) -> access.AccessInfoPlugin:
    """Get the token of a session's user.

    :raises attachguard.opts.ConfigError: if there is none
    """
    session.timeout = conf[opts.GROUP].timeout
    try:
        if not isinstance(session.auth, identity.BaseIdentityPlugin):
            raise opts.ConfigError(f'{who} has no user of Keystone')
        return access.AccessInfoPlugin(session.auth.get_access(session))
    except (ksa_exceptions.ClientException, OSError) as exc:
        raise opts.ConfigError(
            f'{who} no token: {type(exc).__name__}: {exc}'
        ) from exc


def as_caller(
    conf: cfg.ConfigOpts,
    nova: nova_client.Nova,
    caller: access.AccessInfoPlugin,
) -> Finding:
    """Check that a query to Nova with a caller's token gets a response.

    :param conf: as for :func:`run`, with the guard's options
    :param nova: the guard's own client
    :param caller: of :func:`caller_auth`
    """
    conf.register_opt(
        cfg.BoolOpt('include_service_catalog', default=True),
        group='keystone_authtoken',
    )
    if not (
        conf.keystone_authtoken.include_service_catalog
        or nova.endpoint_override
    ):
        return Finding(
            _AS_CALLER,
            Result.WRONG,
            '[keystone_authtoken] include_service_catalog is false, so that '
            "the callers' tokens have no catalog with the address of Nova; "
            'remove it, or set [nova] auth_type, or endpoint_override',
        )
    try:
        nova.check_query(caller)
    except nova_client.Unknown as exc:
        return Finding(_AS_CALLER, Result.WRONG, _explain(exc))
    return Finding(
        _AS_CALLER,
        Result.OK,
        'Nova responds (tried with the user of [keystone_authtoken])',
    )


def user_auth(conf: cfg.ConfigOpts, cloud: str) -> access.AccessInfoPlugin:
    """Get a token of a user.

    :param conf: as for :func:`run`, with the guard's options
    :param cloud: as for :func:`run`
    :returns: a plugin with the token and its catalog
    :raises attachguard.opts.ConfigError: if there is none
    """
    try:
        from openstack import config
        from openstack import exceptions as sdk_exceptions
    except ImportError as exc:
        raise opts.ConfigError(
            f"{exc}: to log in as a user, pip install 'attachguard[audit]'"
        ) from exc
    try:
        session = config.OpenStackConfig().get_one(cloud or None).get_session()
    except (
        sdk_exceptions.SDKException,
        ksa_exceptions.ClientException,
        TypeError,
        ValueError,
    ) as exc:
        raise opts.ConfigError(
            f'--as-user: {exc}; name a cloud of clouds.yaml, or set '
            'OS_AUTH_URL, OS_USERNAME and so on'
        ) from exc
    return _log_in(conf, session, f'--as-user {cloud}'.rstrip() + ':')


def as_user(nova: nova_client.Nova, user: access.AccessInfoPlugin) -> Finding:
    """Find out what Nova shows to a user.

    :param nova: the guard's own client
    :param user: of :func:`user_auth`
    """
    who = f'{user.auth_ref.username} of {user.auth_ref.project_name}'
    try:
        count, every_project = nova.shown_to(user)
    except nova_client.Unknown as exc:
        return Finding(_AS_USER, Result.WRONG, f'{who}: {_explain(exc)}')
    if every_project:
        return Finding(
            _AS_USER,
            Result.UNKNOWN,
            f"{who} sees every project's servers: name a user who does not, "
            'as most callers',
        )
    shown = f'{count} or more' if count >= nova_client.PAGE else str(count)
    return Finding(
        _AS_USER,
        Result.OK,
        f'{who} sees the servers of this project ({shown}), and none of '
        'others',
    )


def region(
    nova: nova_client.Nova, caller: access.AccessInfoPlugin | None = None
) -> Finding:
    """Check that the queries go to one known region.

    :param nova: the guard's own client
    :param caller: of :func:`caller_auth`, for the catalog if the guard has no
        credentials
    """
    check = 'region'
    if nova.endpoint_override:
        return Finding(check, Result.OK, 'endpoint_override chooses it')
    try:
        regions = nova.catalog_regions(None if nova.auth else caller)
    except nova_client.Unknown as exc:
        return Finding(check, Result.UNKNOWN, exc.detail)
    if nova.region is None and len(regions) > 1:
        return Finding(
            check,
            Result.WRONG,
            f'the catalog has Nova in {", ".join(regions)}: set [nova] '
            'region_name to the region of this Cinder',
        )
    if not regions or nova.region not in (None, *regions):
        return Finding(
            check,
            Result.WRONG,
            f'the catalog has Nova in {", ".join(regions) or "no region"}, '
            f'and region_name is {nova.region or "not set"}'
            f'{messages.did_you_mean(nova.region or "", regions)}',
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
