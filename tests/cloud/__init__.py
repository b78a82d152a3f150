# Licensed under the Apache License, Version 2.0 (the "License"); you may
# not use this file except in compliance with the License. You may obtain
# a copy of the License at
#
#      http://www.apache.org/licenses/LICENSE-2.0
#
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS, WITHOUT
# WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied. See the
# License for the specific language governing permissions and limitations
# under the License.

"""A whole real cloud on this machine, and what the guard does to it.

``python -m tests.cloud up`` starts real Keystone, Placement, Glance, Nova and
Cinder on loopback; ``down`` removes every trace of them.

``cloud``
    What the cloud consists of, and its life: up, another mode, down.
``config``
    The configuration file of each service.
``backends``
    MariaDB and RabbitMQ: those that run here, or started for this cloud.
``processes``
    Starting and stopping, and knowing again what was started.
``api``, ``compute``, ``neutron``, ``volume``
    What runs inside of the services' processes.
``identity``
    Users, projects, roles and the catalog.
"""
