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
"""Tempest against a whole real cloud, without the guard and with it.

``python -m tests.tempest`` runs the same tests twice and compares them one by
one. They may differ only where ``selection.yaml`` says so, and says why.

``selection``
    Which tests run, and which must differ: ``selection.yaml``.
``config``
    tempest.conf for a cloud of :mod:`tests.cloud`.
``run``
    One run, in one mode of the cloud.
``compare``
    The comparison of two runs.
"""
