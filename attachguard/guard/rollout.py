# SPDX-License-Identifier: Apache-2.0
"""The rollout: for which requests the rules are enforced.

Each rule has a mode (``rule_modes``).  ``enforce = false`` puts all rules into
shadow mode.  ``enforce_percent`` enforces them for a share of the requests.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING
import zlib

from oslo_config import cfg

from attachguard import messages
from attachguard import opts
from attachguard.guard import default_rules

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# For all rules that rule_modes does not name.
_OTHERS = '*'


class Mode(enum.Enum):
    """What happens to a request that a rule refuses."""

    ENFORCE = 'enforce'
    #: it is forwarded, and its response has a warning
    WARN = 'warn'
    #: it is forwarded, and only the log says so
    SHADOW = 'shadow'
    #: the rule is not evaluated
    OFF = 'off'


# Not SHADOW: that is for all rules at once.
_CONFIGURABLE = (Mode.ENFORCE, Mode.WARN, Mode.OFF)


class Rollout:
    """The modes of the rules.

    :param conf: with the ``[attachguard]`` options
    :raises attachguard.opts.ConfigError: if there is no such rule or mode
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        group = conf[opts.GROUP]
        self._percent: int = group.enforce_percent
        self.default = Mode.ENFORCE if group.enforce else Mode.SHADOW
        modes = dict(map(_parse, group.rule_modes))
        known = [
            rule.name.removeprefix(default_rules.PREFIX)
            for rule in default_rules.list_rules()
            if rule.name != default_rules.SERVICE
        ]
        for name in modes:
            if name not in (_OTHERS, *known):
                raise opts.ConfigError(
                    f'[{opts.GROUP}] rule_modes: there is no rule "{name}"'
                    f'{messages.did_you_mean(name, known)}; there are: '
                    f'{_OTHERS}, {", ".join(known)}'
                )
        others = modes.get(_OTHERS, Mode.ENFORCE)
        self._modes = {
            default_rules.PREFIX + name: self._effective(
                modes.get(name, others)
            )
            for name in known
        }

    def _effective(self, mode: Mode) -> Mode:
        if mode is not Mode.OFF and self.default is Mode.SHADOW:
            return Mode.SHADOW
        return mode

    def mode(self, rule: str, environ: WSGIEnvironment) -> Mode:
        """The mode of a rule, for one request.

        :param rule: ``attachguard:os-attach``
        :param environ: of the request, whose id chooses the share that is
            enforced
        """
        mode = self._modes[rule]
        if mode is not Mode.ENFORCE or self._percent == 100:
            return mode
        # Cinder's request_id filter makes it, not the client. Without it, all
        # requests are in the share.
        request_id = environ.get('openstack.request_id', '')
        place = zlib.crc32(request_id.encode()) % 100
        return mode if place < self._percent else Mode.WARN

    def __str__(self) -> str:
        """The modes that differ from the default, for the log."""
        different = [
            f'{rule.removeprefix(default_rules.PREFIX)}={mode.value}'
            for rule, mode in self._modes.items()
            if mode is not self.default
        ]
        if self._percent != 100:
            different.append(f'enforce_percent={self._percent}')
        return ', '.join(different)


def _parse(text: str) -> tuple[str, Mode]:
    """Parse an item of rule_modes.

    Not by oslo.config's Dict: names of rules have colons, and it has no other
    separator before release 9.5.

    :param text: ``os-attach=warn``
    :raises attachguard.opts.ConfigError: if there is no such mode
    """
    name, _, value = map(str.strip, text.partition('='))
    for mode in _CONFIGURABLE:
        if value == mode.value:
            return name, mode
    values = ', '.join(mode.value for mode in _CONFIGURABLE)
    raise opts.ConfigError(
        f'[{opts.GROUP}] rule_modes: "{text}" is not RULE=MODE with one of '
        f'these modes: {values}'
    )
