# SPDX-License-Identifier: Apache-2.0
"""Evaluation of logged decisions: refusals, proposals, another policy."""
