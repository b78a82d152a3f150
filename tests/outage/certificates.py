# SPDX-License-Identifier: Apache-2.0
"""Certificates, valid and invalid, for servers on 127.0.0.1."""

import datetime
import ipaddress
import pathlib
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import oid

_DAY = datetime.timedelta(days=1)


def create(
    path: pathlib.Path, host: x509.GeneralName, expires_in: datetime.timedelta
) -> ssl.SSLContext:
    """Create a self-signed certificate.

    :param path: file for the certificate and its key; a client that has it as
        its CA file trusts the certificate
    :param expires_in: negative where it has expired
    :returns: the TLS context of the server
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid.NameOID.COMMON_NAME, path.stem)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - 2 * _DAY)
        .not_valid_after(now + expires_in)
        .add_extension(x509.SubjectAlternativeName([host]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    path.write_bytes(
        key.private_bytes(
            pem,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(pem)
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    return context


def create_all(
    directory: pathlib.Path,
) -> tuple[pathlib.Path, dict[str, ssl.SSLContext]]:
    """Create a valid certificate, and one for each way to be invalid.

    :returns: the CA file, and the TLS contexts by name
    """
    address = x509.IPAddress(ipaddress.ip_address('127.0.0.1'))
    contexts = {
        name: create(directory / name, host, expires_in)
        for name, host, expires_in in (
            ('good', address, _DAY),
            ('another-name', x509.DNSName('nova.invalid'), _DAY),
            ('expired', address, -_DAY),
            ('untrusted', address, _DAY),
        )
    }
    trusted = directory / 'trusted.pem'
    trusted.write_text(
        ''.join(
            (directory / name).read_text()
            for name in contexts
            if name != 'untrusted'
        )
    )
    return trusted, contexts
