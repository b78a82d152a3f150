# SPDX-License-Identifier: Apache-2.0
"""A guard for the attachment operations of the Block Storage API.

The filter is :mod:`attachguard.filter`; every option is in
:mod:`attachguard.opts`, every rule in :mod:`attachguard.guard.policy`.
"""
