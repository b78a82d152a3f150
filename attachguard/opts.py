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

"""Every option, where it comes from, and what is wrong with it.

Options live in the ``[attachguard]`` group of the service's own configuration
(``cinder.conf``), and may be given in the filter's section of the paste file,
which wins.  A bad one stops the service at start-up with its name and the
values that it allows: a guard that silently stands open is worse than none.
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

LOG = logging.getLogger(__name__)

GROUP = 'attachguard'

OPTS: list[cfg.Opt] = [
    cfg.BoolOpt(
        'enforce',
        default=True,
        help='Refuse what the rules refuse. With false, the filter decides, '
        'logs and counts, and lets everything through: run it so for a while '
        'to see who would be refused. (A body that is longer than '
        'max_body_size, or shorter than announced, is refused all the same.)',
    ),
    cfg.StrOpt(
        'on_nova_error',
        default='deny',
        choices=[
            ('deny', 'answer 503 with Retry-After'),
            ('allow', 'let the request through, and log a warning'),
        ],
        help='What becomes of a request whose rule asks Nova, when Nova is '
        "down, slow or not understood. Where Nova refuses the caller's own "
        'token, which a caller can bring about, the answer is 503 in any '
        'case.',
    ),
    cfg.StrOpt(
        'auth_strategy',
        default='keystone',
        choices=[
            ('keystone', 'auth_token stands before this filter'),
            ('noauth', 'nobody is authenticated: for test clouds only'),
        ],
        help='Who says who the caller is. With "keystone", a guarded request '
        'that auth_token has not seen is refused. With "noauth" the '
        'identity headers are believed, which anybody can send.',
    ),
    cfg.StrOpt(
        'policy_file',
        default='attachguard-policy.yaml',
        help='File with the rules that differ from the defaults, absolute or '
        'relative to the configuration directories. It is read again when it '
        'changes. Only the default name may be missing.',
    ),
    cfg.FloatOpt(
        'nova_timeout',
        default=10.0,
        min=0.1,
        help='Seconds within which a question to Nova is answered or given '
        'up, with everything in it: connecting, a token, waiting, reading. '
        'Several questions for one request share the time. '
        'The option "timeout" bounds a single connect or read within it.',
    ),
    cfg.IntOpt(
        'nova_max_concurrency',
        default=16,
        min=1,
        help='How many requests of one process may wait for Nova at a time. '
        'Beyond, one that needs to gets 503 at once, so that a slow Nova does '
        "not take all of the API's workers. At most half as many as the "
        'process has threads: where all of them can wait for Nova, and Nova '
        'for them, neither gets an answer.',
    ),
    cfg.IntOpt(
        'nova_breaker_failures',
        default=5,
        min=0,
        help='After so many questions in a row that come to nothing, or one '
        'to which Nova says nothing for nova_timeout, Nova is left alone for '
        'a while: who needs its answer gets 503 at once, or is let through '
        'where on_nova_error says so. 0: it is asked always.',
    ),
    cfg.FloatOpt(
        'nova_breaker_seconds',
        default=5.0,
        min=0.1,
        help='For how many seconds Nova is left alone. Then one request asks '
        'it: when it is answered, all do again.',
    ),
    cfg.IntOpt(
        'retry_after',
        default=5,
        min=1,
        help='Seconds that a 503 asks its caller to wait (Retry-After).',
    ),
    cfg.IntOpt(
        'max_body_size',
        default=1024 * 1024,
        min=1024,
        help='The longest body of a volume or attachment action that is '
        'read, in bytes. oslo.middleware\'s sizelimit, which stands before '
        'this filter in the usual pipeline, stops at 114688 by default.',
    ),
    cfg.StrOpt(
        'statsd_host',
        help='Send counters to the statsd daemon on this host. Needs the '
        'package "statsd". Without it, nothing is counted.',
    ),
    cfg.PortOpt('statsd_port', default=8125, help='Its UDP port.'),
    cfg.StrOpt(
        'statsd_prefix',
        default='attachguard',
        help='What the names of the counters begin with.',
    ),
]

# Those of the adapter's options that mean something for one known request.
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
    """An option, rule or credential that cannot be right."""


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
    # keystoneauth1 must find it, but it keeps every timing for ever.
    nova = [opt for opt in _nova_opts() if opt.dest != 'collect_timing']
    auth = loading.get_auth_common_conf_options()
    password = loading.get_auth_plugin_conf_options('password')
    return [(GROUP, copy.deepcopy(OPTS) + nova + auth + password)]


@contextlib.contextmanager
def configured(
    conf: cfg.ConfigOpts, paste: Mapping[str, str]
) -> Iterator[Any]:
    """The options, with the paste file's values on top, for as long as it is.

    The configuration is the service's own, and perhaps another filter's: what
    stands in one section of the paste file must not be seen by the next.

    :param conf: the service's configuration
    :param paste: what stands in the filter's section of the paste file
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
    """Register the options, put the paste file's values on top, check all.

    :param conf: the service's configuration
    :param paste: what stands in the filter's section of the paste file
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
    # They say which further options there are.
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


def load_auth(conf: cfg.ConfigOpts) -> plugin.BaseAuthPlugin | None:
    """The credentials to ask Nova with.

    :returns: None where none are configured: Nova is asked as the caller
    :raises ConfigError: where they are not complete
    """
    group = conf[GROUP]
    if not group.auth_type and not group.auth_section:
        return None
    try:
        # Of another section, auth_type is an option only from here on.
        loading.register_auth_conf_options(conf, GROUP)
        auth = loading.load_auth_from_conf_options(conf, GROUP)
    except (ksa_exceptions.ClientException, cfg.Error, ValueError) as exc:
        raise ConfigError(
            f"[{GROUP}] credentials cannot be loaded from section "
            f"[{group.auth_section or GROUP}]: {exc}"
        ) from exc
    if auth is None:
        raise ConfigError(
            f'[{GROUP}] auth_section: [{group.auth_section}] has no auth_type'
        )
    return auth


def _check_names(conf: cfg.ConfigOpts, known: list[cfg.Opt]) -> None:
    """oslo.config passes over a name that it does not know."""
    names = _names(known)
    # Legal, if idle, beside an auth_section or without an auth_type.
    idle = _names(_auth_plugin_opts('password'))
    for path in _config_files(conf):
        sections: dict[str, dict[str, list[str]]] = {}
        try:
            cfg.ConfigParser(path, sections).parse()
        except (OSError, cfg.Error) as exc:
            # oslo.config has read it, by another name or at another time.
            LOG.warning('The names of options are not checked: %s', exc)
            continue
        for option in sections.get(GROUP, {}):
            name = option.replace('-', '_')
            if name in names:
                continue
            if name not in idle:
                raise _unknown(option, path, known)
            LOG.warning(
                '[%s] %s in %s is not used: there is no auth_type, or '
                'auth_section says otherwise',
                GROUP,
                option,
                path,
            )


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
        # Nobody has loaded any.
        return []
    for directory in map(os.path.expanduser, directories):
        files += sorted(glob.glob(os.path.join(directory, '*.conf')))
    return [os.path.expanduser(path) for path in files]


def _unknown(name: str, where: str, known: list[cfg.Opt]) -> ConfigError:
    names = ', '.join(sorted(opt.dest for opt in known))
    return ConfigError(
        f'[{GROUP}] has no option "{name}" (in {where}); it has: {names}'
    )


def _auth_plugin_opts(auth_type: str) -> list[cfg.Opt]:
    try:
        return list(loading.get_auth_plugin_conf_options(auth_type))
    except ksa_exceptions.NoMatchingPlugin as exc:
        known = ', '.join(sorted(loading.get_available_plugin_names()))
        raise ConfigError(
            f'[{GROUP}] auth_type: {exc}; allowed are: {known}'
        ) from None


def _bad_value(name: str, exc: Exception) -> ConfigError:
    opt = next(opt for opt in OPTS + _nova_opts() if opt.dest == name)
    choices = getattr(opt.type, 'choices', None)
    allowed = ', '.join(choices) if choices else str(opt.type)
    return ConfigError(f'[{GROUP}] {name}: {exc}; allowed: {allowed}')
