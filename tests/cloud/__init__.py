# SPDX-License-Identifier: Apache-2.0

"""A whole real cloud on this machine, and what the guard does to it.

``python -m tests.cloud up`` starts real Keystone, Placement, Glance, Nova and
Cinder on loopback; ``down`` removes every trace of them.

What it is:

``cloud``
    The cloud's life: up, another mode, down.
``mode``
    With the guard or without it, and what Nova sends.
``services``, ``config``
    How each service is made ready and started, and its configuration.
``backends``
    MariaDB and RabbitMQ: those that run here, or started for this cloud.
``processes``
    Starting and stopping, and knowing again what was started.
``api``, ``compute``, ``compute_driver``, ``neutron``, ``volume``
    What runs inside of the services' processes.
``identity``
    Users, projects, roles and the catalog.

What the tests do with it:

``people``
    Who calls, and with which client.
``stage``, ``records``
    Making servers and volumes, waiting for them, and what both sides say.
``traffic``
    The requests to Cinder, and the decisions of the guard.
``flows``, ``scene``, ``runs``, ``table``
    Every flow of Nova, step by step, in each mode; and the documentation's
    table of what came of it.
``rules``, ``attacks``
    A policy file that changes; and ways to write a forgery.
``damage``, ``operators``, ``race``
    How records come to disagree; who runs ``attachguard``; and what happens
    where that is done at the same time.
"""
