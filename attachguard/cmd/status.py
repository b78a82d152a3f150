# SPDX-License-Identifier: Apache-2.0

"""``attachguard-status upgrade check``: the preflight, as of other services.

Deployment tools run it of each service before and after an upgrade.
"""

from __future__ import annotations

from collections.abc import Sequence
import functools
import pathlib
import sys

from oslo_config import cfg
from oslo_upgradecheck import upgradecheck

from attachguard.guard import preflight
from attachguard.guard import service_config

_CODES = {
    preflight.Result.OK: upgradecheck.Code.SUCCESS,
    preflight.Result.UNKNOWN: upgradecheck.Code.WARNING,
    preflight.Result.WRONG: upgradecheck.Code.FAILURE,
}

_NOVA_CONF = cfg.MultiStrOpt(
    'nova-conf',
    default=[],
    metavar='FILE',
    help='Check whether this nova.conf configures service tokens: of '
    'nova-api, nova-conductor and a compute node. Can be repeated.',
)


class Checks(upgradecheck.UpgradeCommands):
    """The preflight's checks.

    :param conf: the configuration, which may be loaded later
    """

    def __init__(self, conf: cfg.ConfigOpts) -> None:
        self._conf = conf

    def check(self) -> upgradecheck.Code:
        """Run all checks, and print the results.

        :returns: the worst of them
        """
        findings = preflight.run(
            self._conf,
            service_config.find_paste_ini(self._conf),
            [pathlib.Path(name) for name in self._conf.nova_conf],
        )
        self._upgrade_checks = tuple(
            (finding.check, functools.partial(_result, finding))
            for finding in findings
        )
        return super().check()


def _result(
    finding: preflight.Finding, _checks: Checks
) -> upgradecheck.Result:
    return upgradecheck.Result(_CODES[finding.result], finding.text)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    :param argv: the arguments; by default those of the process
    :returns: the exit code: 0 for success, 1 for a warning, 2 for a failure,
        255 for an unexpected error
    """
    conf = cfg.ConfigOpts()
    conf.register_cli_opt(_NOVA_CONF)
    service_config.register(conf)
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        return upgradecheck.main(conf, 'cinder', Checks(conf), arguments)
    except cfg.Error as exc:
        print(f'Error: {exc}', file=sys.stderr)
        return upgradecheck.Code.FAILURE
