# SPDX-License-Identifier: Apache-2.0
"""The ways in which the same cloud is run, to be compared."""

from __future__ import annotations

from collections.abc import Mapping
import dataclasses
import pathlib
from typing import Any

_PRESET = (
    pathlib.Path(__file__).parents[2]
    / 'etc'
    / 'attachguard-policy.no-service-token.yaml.sample'
)


@dataclasses.dataclass(frozen=True)
class Mode:
    """What differs between two runs of the cloud.

    :param name: what it is called in results and tables
    :param guard: whether the filter is in Cinder's pipeline
    :param service_token: whether Nova sends service tokens
    :param service_roles_required: of Cinder's ``[keystone_authtoken]``
    :param nova_credentials: whether Cinder's ``[nova]`` has an ``auth_type``
    :param guard_options: of Cinder's ``[attachguard]``
    """

    name: str
    guard: bool
    service_token: bool = True
    service_roles_required: bool = True
    nova_credentials: bool = True
    guard_options: Mapping[str, Any] = dataclasses.field(
        default_factory=dict, hash=False
    )

    @property
    def nova_is_service(self) -> bool:
        """Whether the user of Nova's API has the role ``service``.

        Its token goes with each call of nova-api to Cinder, whatever Nova is
        configured to send: keystonemiddleware adds it.
        """
        return self.service_token or self.service_roles_required

    def as_json(self) -> dict[str, Any]:
        """What it is, to be written down and compared."""
        options = {name: str(v) for name, v in self.guard_options.items()}
        return {
            **dataclasses.asdict(self),
            'guard_options': options,
            'nova_is_service': self.nova_is_service,
        }


UNGUARDED = Mode('no guard', guard=False)
SHADOW = Mode('shadow', guard=True, guard_options={'enforce': False})
ENFORCED = Mode('enforced', guard=True)
AS_THE_CALLER = Mode('as the caller', guard=True, nova_credentials=False)
UNGUARDED_NO_TOKEN = Mode(
    'no guard, no service token', guard=False, service_token=False
)
PRESET_NO_TOKEN = Mode(
    'preset, no service token',
    guard=True,
    service_token=False,
    guard_options={'policy_file': _PRESET},
)
PRESET_NO_ROLE = dataclasses.replace(
    PRESET_NO_TOKEN,
    name='preset, no role service',
    service_roles_required=False,
)

#: Those that the table of Nova's flows has, in its order.
COMPARED = (
    UNGUARDED,
    SHADOW,
    ENFORCED,
    UNGUARDED_NO_TOKEN,
    PRESET_NO_TOKEN,
)
