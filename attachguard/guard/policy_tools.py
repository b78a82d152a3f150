# SPDX-License-Identifier: Apache-2.0
"""The enforcer for the command-line tools of oslo.policy.

``oslopolicy-validator --namespace attachguard`` and its siblings get it by
the entry point ``oslo.policy.enforcer``.  The guard itself does not use it.
"""

from __future__ import annotations

from oslo_config import cfg
from oslo_log import log as logging
from oslo_policy import policy

from attachguard import opts
from attachguard.guard import default_rules
from attachguard.guard import policy as guard_policy
from attachguard.guard import service_config

LOG = logging.getLogger(__name__)


class Enforcer(policy.Enforcer):
    """An enforcer that validates the rules as the guard does."""

    def check_rules(self, raise_on_violation: bool = False) -> bool:
        """Validate the rules.

        :param raise_on_violation: raise an error if a rule is invalid
        :returns: False if a rule is invalid; the log says which
        :raises oslo_policy.policy.InvalidDefinitionError: a rule is invalid
        """
        valid = super().check_rules(raise_on_violation)
        try:
            if self.policy_path:
                guard_policy.load_rules(self.policy_path)
        except opts.ConfigError as exc:
            LOG.error('%s: %s', self.policy_path, exc)
            if raise_on_violation:
                raise policy.InvalidDefinitionError([str(exc)]) from exc
            return False
        return valid


def get_enforcer() -> Enforcer:
    """Return an enforcer of the guard's rules.

    The tools have loaded ``oslo_config.cfg.CONF`` from their command line, and
    read the name of the policy file from it.

    :raises attachguard.opts.ConfigError: for an invalid option
    :raises oslo_config.cfg.Error: if a configuration file cannot be read
    """
    conf = cfg.CONF
    if conf.config_file or conf.config_dir:
        service_config.register(conf)
    else:
        service_config.load(conf)
    paste_ini = service_config.find_paste_ini(conf)
    opts.configure(conf, service_config.filter_options(paste_ini))
    path = guard_policy.find_file(conf) or conf[opts.GROUP].policy_file
    enforcer = Enforcer(conf, policy_file=path)
    enforcer.register_defaults(default_rules.list_rules())
    # Not the files of Cinder's own rules.
    conf.set_override('policy_file', path, group='oslo_policy')
    conf.set_override('policy_dirs', [], group='oslo_policy')
    return enforcer
