# SPDX-License-Identifier: Apache-2.0


"""The audit: volumes whose records in Cinder and Nova disagree, and repair.

Data flows one way::

    APIs -> inventory -> cases -> findings -> plan -> repair -> journal
    or databases                     |                             |
                                  reports                        undo

:mod:`~attachguard.audit.collect.api` is the only module that talks to a cloud.
Databases are connected to by :mod:`~attachguard.audit.engine`, to read the
inventory (:mod:`~attachguard.audit.collect.databases`), and for what only SQL
can repair (:mod:`~attachguard.audit.repair.sql`).
"""
