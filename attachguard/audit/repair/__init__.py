# SPDX-License-Identifier: Apache-2.0
"""Repairs of what an audit found: plan, steps, journal, undo."""
