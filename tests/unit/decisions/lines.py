# SPDX-License-Identifier: Apache-2.0

"""Lines of a log, for the tests."""

from __future__ import annotations

import json
from typing import Any

RULE = 'attachguard:os-detach'


def decision(**values: Any) -> dict[str, Any]:
    return {
        'verdict': 'refused',
        'reason': 'server-has-volume',
        'enforced': False,
        'mode': 'shadow',
        'service': False,
        'time': '2026-01-02T03:04:05.000+00:00',
        'rule': RULE,
        'operation': 'os-detach',
        'user_id': 'u1',
        'project_id': 'p1',
        'user_agent': 'client/1',
        'credentials': {'roles': ['member']},
        'checks': {
            'cinder:same_volume': True,
            'nova:no_server_has_volume': False,
        },
        **values,
    }


def line(**values: Any) -> str:
    return (
        '2026-01-02 03:04:05.000 17 WARNING attachguard.guard.decision_log '
        f'[req-1 u1 p1] attachguard decision {json.dumps(decision(**values))}'
    )
