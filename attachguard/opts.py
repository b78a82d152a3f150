# SPDX-License-Identifier: Apache-2.0

"""The options, and their validation.

Options are in the ``[attachguard]`` group of the service's own configuration
(``cinder.conf``), and may be set in the filter's section of the paste file,
which takes precedence.  An invalid one stops the service at start-up, with
its name and the values that it allows: a guard that is silently open is worse
than none.
"""

from __future__ import annotations

from collections.abc import Iterator
from collections.abc import Mapping
import contextlib
import copy
import glob
import os
from typing import Any

from keystoneauth1 import exceptions as ksa_exceptions
from keystoneauth1 import loading
from keystoneauth1 import plugin
from oslo_config import cfg
from oslo_log import log as logging

from attachguard import messages

LOG = logging.getLogger(__name__)

GROUP = 'attachguard'
#: the section with the credentials by which Cinder itself queries Nova
CINDERS = 'nova'

OPTS: list[cfg.Opt] = [
    cfg.BoolOpt(
        'enforce',
        default=True,
        help='Refuse what the rules refuse. With false (shadow mode), the '
        'filter decides, logs and counts, and forwards every request: use it '
        'for a while to see which callers would be refused. (A body that is '
        'longer than max_body_size, or shorter than announced, is refused all '
        'the same.)',
    ),
    cfg.ListOpt(
        'rule_modes',
        default=[],
        sample_default='*=warn,os-attach=enforce,os-reimage=off',
        help='What happens to a request that a rule refuses, by the name of '
        'the rule in the policy, without its prefix: "enforce" (refuse it), '
        '"warn" (forward it, and add a Warning header to the response) or '
        '"off" (the rule is not evaluated, and nothing is logged). The name * '
        'stands for all other rules; without it they are enforced. With '
        'enforce = false all rules but those that are off are in shadow mode.',
    ),
    cfg.IntOpt(
        'enforce_percent',
        default=100,
        min=0,
        max=100,
        help='Enforce the rules for this percentage of the requests, and '
        'forward the others with a warning. For the start of a rollout: a '
        'caller that repeats a refused request succeeds sooner or later.',
    ),
    cfg.StrOpt(
        'on_nova_error',
        default='deny',
        choices=[
            ('deny', 'respond with 503 and Retry-After'),
            ('allow', 'forward the request, and log a warning'),
        ],
        help='How to treat a request whose rule queries Nova, while Nova is '
        'down, slow or sends an invalid response. If Nova refuses the '
        "caller's own token, which a caller can cause, the response is 503 in "
        'any case.',
    ),
    cfg.StrOpt(
        'auth_strategy',
        default='keystone',
        choices=[
            ('keystone', 'auth_token is in front of this filter'),
            ('noauth', 'nobody is authenticated: for test clouds only'),
        ],
        help='How callers are identified. With "keystone", a guarded request '
        'that auth_token has not processed is refused. With "noauth", the '
        'identity headers are trusted, which anybody can send.',
    ),
    cfg.StrOpt(
        'policy_file',
        default='attachguard-policy.yaml',
        help='File with the rules that differ from the defaults, absolute or '
        'relative to the configuration directories. It is reloaded when it '
        'changes. Only a file of the default name may be missing.',
    ),
    cfg.FloatOpt(
        'nova_timeout',
        default=2.0,
        min=0.1,
        help='Total time in seconds for the queries of one request to Nova: '
        'connect, token, response. After it the query has failed. '
        'The option "timeout" limits a single connect or read within it.',
    ),
    cfg.FloatOpt(
        'settle',
        default=30.0,
        min=0.0,
        help='Number of seconds after the last change of a volume during '
        'which Nova may not have saved its record of a reserved or attaching '
        'attachment. The response to a request that would clear the '
        'attachment is 503 during this time.',
    ),
    cfg.IntOpt(
        'nova_max_concurrency',
        min=1,
        help='Maximum number of queries to Nova that one process sends at a '
        'time; one project sends at most half of them. A request that needs '
        'another one gets 503 at once, so that a slow Nova does not block all '
        "of the API's threads. By default half of the threads of a process of "
        'uWSGI or mod_wsgi with several threads; 16 where a process has one, '
        'and under other servers: set it to at most half of their threads. If '
        'all of them can wait for Nova, and Nova for them, neither gets a '
        'response.',
    ),
    cfg.IntOpt(
        'nova_breaker_failures',
        default=5,
        min=0,
        help='Number of failed queries in a row that open the circuit '
        'breaker. '
        'One without any response within nova_timeout opens it, too. '
        'While it is open no request waits for a query: one that needs it '
        'gets 503 at once, or is forwarded if on_nova_error is "allow". 0: '
        'never.',
    ),
    cfg.FloatOpt(
        'nova_breaker_seconds',
        default=1.0,
        min=0.1,
        help='Seconds between two probes in the background while the circuit '
        'breaker is open; for a Nova that responds only now and then, up to '
        '16 times as long. If Nova responds, the circuit breaker closes.',
    ),
    cfg.IntOpt(
        'retry_after',
        default=5,
        min=1,
        help='Seconds in the Retry-After header of a 503.',
    ),
    cfg.IntOpt(
        'max_body_size',
        default=1024 * 1024,
        min=1024,
        help='Maximum size of the body of a volume or attachment action, in '
        "bytes. oslo.middleware's sizelimit, which is in front of this filter "
        'in the usual pipeline, has a limit of 114688 by default.',
    ),
    cfg.StrOpt(
        'statsd_host',
        help='Send counters to the statsd daemon on this host. Needs the '
        'package "statsd". If it is not set, nothing is counted.',
    ),
    cfg.PortOpt('statsd_port', default=8125, help='Its UDP port.'),
    cfg.StrOpt(
        'statsd_prefix',
        default='attachguard',
        help='Prefix of the names of the counters.',
    ),
    cfg.BoolOpt(
        'prometheus',
        default=False,
        help='Count decisions for Prometheus, too. Needs the package '
        '"prometheus_client", and the environment variable '
        'PROMETHEUS_MULTIPROC_DIR of cinder-api: a directory that is emptied '
        'before it starts. "attachguard metrics" serves the values.',
    ),
]

# The options of an adapter that apply to one known request.
_ADAPTER_OPTS = (
    'service-type',
    'service-name',
    'valid-interfaces',
    'region-name',
    'endpoint-override',
)

# Of ConfigurableMiddleware itself.
_PASTE_OPTS = (
    'oslo_config_project',
    'oslo_config_file',
    'oslo_config_program',
)


class ConfigError(ValueError):
    """An invalid option, rule or credential."""


def _nova_opts() -> list[cfg.Opt]:
    session = loading.get_session_conf_options()
    cfg.set_defaults(session, timeout=5.0)
    adapter = [
        opt
        for opt in loading.get_adapter_conf_options(include_deprecated=False)
        if opt.name in _ADAPTER_OPTS
    ]
    cfg.set_defaults(
        adapter,
        service_type='compute',
        valid_interfaces=['internal', 'public'],
    )
    return session + adapter


def list_opts() -> list[tuple[str, list[cfg.Opt]]]:
    """The options for ``oslo-config-generator``.

    :returns: pairs of a group's name and its options
    """
    # keystoneauth1 must find collect_timing, but it would keep all timings.
    nova = [opt for opt in _nova_opts() if opt.dest != 'collect_timing']
    auth = loading.get_auth_common_conf_options()
    password = loading.get_auth_plugin_conf_options('password')
    return [(GROUP, copy.deepcopy(OPTS) + nova + auth + password)]


@contextlib.contextmanager
def configured(
    conf: cfg.ConfigOpts, paste: Mapping[str, str]
) -> Iterator[Any]:
    """The options, with the paste file's values on top, within a context.

    The configuration is the service's own, and perhaps another filter's: the
    values of one section of the paste file must not apply to the next.

    :param conf: the service's configuration
    :param paste: the options of the filter's section of the paste file
    :returns: the group, to be read within the context
    :raises ConfigError: with the option's name and its allowed values
    """
    try:
        configure(conf, paste)
        yield conf[GROUP]
    finally:
        for name in paste:
            with contextlib.suppress(cfg.NoSuchOptError):
                conf.clear_override(name.replace('-', '_'), group=GROUP)


def configure(conf: cfg.ConfigOpts, paste: Mapping[str, str]) -> None:
    """Register the options, put the paste file's values on top, validate.

    :param conf: the service's configuration
    :param paste: the options of the filter's section of the paste file
    :raises ConfigError: with the option's name and its allowed values
    """
    conf.register_opts(OPTS, group=GROUP)
    conf.register_opts(_nova_opts(), group=GROUP)
    conf.register_opts(loading.get_auth_common_conf_options(), group=GROUP)
    values = {
        name.replace('-', '_'): value
        for name, value in paste.items()
        if name not in _PASTE_OPTS
    }
    # These determine which further options there are.
    for name in ('auth_section', 'auth_type'):
        if name in values:
            conf.set_override(name, values.pop(name), group=GROUP)
    known = OPTS + _nova_opts() + loading.get_auth_common_conf_options()
    auth_type = conf[GROUP].auth_type
    if auth_type and conf[GROUP].auth_section in (None, GROUP):
        plugin_opts = _auth_plugin_opts(auth_type)
        conf.register_opts(plugin_opts, group=GROUP)
        known = known + plugin_opts
    _check_names(conf, known)
    for name, value in values.items():
        try:
            conf.set_override(name, value, group=GROUP)
        except cfg.NoSuchOptError:
            raise _unknown(name, 'the paste file', known) from None
        except ValueError as exc:
            raise _bad_value(name, exc) from None
    for opt in OPTS + _nova_opts():
        try:
            conf[GROUP][opt.dest]
        except (ValueError, cfg.Error) as exc:
            raise _bad_value(opt.dest, exc) from None


def auth_section(conf: cfg.ConfigOpts) -> str | None:
    """The section with the credentials to query Nova with.

    Those of ``[attachguard]``, or else those with which Cinder itself queries
    Nova.

    :returns: None if there are none: Nova is queried as the caller
    """
    group = conf[GROUP]
    if group.auth_type or group.auth_section:
        return GROUP
    # Cinder's own options, by the same names.
    loading.register_auth_conf_options(conf, CINDERS)
    cinders = conf[CINDERS]
    # With an auth_section, auth_type is an option of that section only.
    return CINDERS if cinders.auth_section or cinders.auth_type else None


def session_section(conf: cfg.ConfigOpts) -> str:
    """The section with the TLS options for the connection to Nova."""
    group = conf[GROUP]
    if (
        auth_section(conf) != CINDERS
        or group.insecure
        or group.cafile
        or group.certfile
        or group.keyfile
    ):
        return GROUP
    loading.register_session_conf_options(conf, CINDERS)
    return CINDERS


def load_auth(conf: cfg.ConfigOpts) -> plugin.BaseAuthPlugin | None:
    """Load the credentials to query Nova with.

    :returns: None if none are configured: Nova is queried as the caller
    :raises ConfigError: if they are not complete
    """
    section = auth_section(conf)
    return None if section is None else load_section_auth(conf, section)


def load_section_auth(
    conf: cfg.ConfigOpts, section: str
) -> plugin.BaseAuthPlugin:
    """Load the credentials of a section.

    :param section: where their options are, or their ``auth_section``
    :raises ConfigError: if they are not complete
    """
    try:
        # Of another section, auth_type is an option only from here on.
        loading.register_auth_conf_options(conf, section)
        named = conf[section].auth_section or section
        auth = loading.load_auth_from_conf_options(conf, section)
    except (ksa_exceptions.ClientException, cfg.Error, ValueError) as exc:
        raise ConfigError(
            f'[{section}] credentials cannot be loaded: '
            f'{messages.describe(exc)}'
        ) from exc
    if auth is None:
        raise ConfigError(
            f'[{section}] credentials: [{named}] has no auth_type'
        )
    url = getattr(auth, 'auth_url', None)
    if url and not url.startswith(('http://', 'https://')):
        raise ConfigError(
            f'[{named}] auth_url = {url} is not a URL: it begins with http:// '
            'or https://'
        )
    return auth


def _check_names(conf: cfg.ConfigOpts, known: list[cfg.Opt]) -> None:
    """Reject unknown names, which oslo.config ignores."""
    names = _names(known)
    # Valid, but unused beside an auth_section or without an auth_type.
    unused = _names(_auth_plugin_opts('password'))
    for path, sections in read_sections(conf):
        # oslo.config folds the case of a section's name.
        for option in (
            option
            for section, values in sections.items()
            if section.lower() == GROUP
            for option in values
        ):
            name = option.replace('-', '_')
            if name in names:
                continue
            if name not in unused:
                raise _unknown(option, path, known)
            LOG.warning(
                'Option not used, because auth_type is not set or '
                'auth_section names another section: option=[%s]%s file=%s',
                GROUP,
                option,
                path,
            )


def read_sections(
    conf: cfg.ConfigOpts,
) -> Iterator[tuple[str, dict[str, dict[str, list[str]]]]]:
    """Read the sections of the loaded configuration files, as written.

    :param conf: the service's configuration
    :returns: of each file its name, and its sections with their values
    """
    for path in _config_files(conf):
        sections: dict[str, dict[str, list[str]]] = {}
        try:
            cfg.ConfigParser(path, sections).parse()
        except (OSError, cfg.Error) as exc:
            # oslo.config has read it, by another name or at another time.
            LOG.warning('Names of options not checked: error=%s', exc)
            continue
        yield path, sections


def _names(known: list[cfg.Opt]) -> set[str]:
    return {
        name.replace('-', '_')
        for opt in known
        for name in (
            opt.name,
            opt.dest,
            *(old.name for old in opt.deprecated_opts if old.name),
        )
    }


def _config_files(conf: cfg.ConfigOpts) -> list[str]:
    try:
        files = list(conf.config_file or ())
        named = conf.config_dir or ()
        directories = [named] if isinstance(named, str) else list(named)
        directories += [
            path for path in conf.config_dirs if path not in directories
        ]
    except (cfg.NoSuchOptError, cfg.NotInitializedError):
        # None were loaded.
        return []
    for directory in map(os.path.expanduser, directories):
        files += sorted(glob.glob(os.path.join(directory, '*.conf')))
    return [os.path.expanduser(path) for path in files]


def _unknown(name: str, where: str, known: list[cfg.Opt]) -> ConfigError:
    names = sorted(opt.dest for opt in known)
    hint = messages.did_you_mean(name, names)
    return ConfigError(
        f'[{GROUP}] has no option "{name}"{hint} (in {where}); it has: '
        f'{", ".join(names)}'
    )


def _auth_plugin_opts(auth_type: str) -> list[cfg.Opt]:
    try:
        return list(loading.get_auth_plugin_conf_options(auth_type))
    except ksa_exceptions.NoMatchingPlugin as exc:
        known = sorted(loading.get_available_plugin_names())
        hint = messages.did_you_mean(auth_type, known)
        raise ConfigError(
            f'[{GROUP}] auth_type: {exc}{hint}; allowed are: '
            f'{", ".join(known)}'
        ) from None


def _bad_value(name: str, exc: Exception) -> ConfigError:
    opt = next(opt for opt in OPTS + _nova_opts() if opt.dest == name)
    choices = getattr(opt.type, 'choices', None)
    allowed = ', '.join(choices) if choices else str(opt.type)
    return ConfigError(
        f'[{GROUP}] {name}: {messages.describe(exc)}; allowed: {allowed}'
    )
