"""Certificates that a test makes for itself."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOSTS = ("127.0.0.1", "::1")


class Authority:
    """Signs certificates, which lie in a folder as `name.pem` and `name.key`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name, self.key = (
            folder,
            named(name),
            ec.generate_private_key(ec.SECP256R1()),
        )
        self.pem = folder / f"{name}.pem"
        self.pem.write_bytes(
            self._signed(self.name, self.key, x509.BasicConstraints(ca=True, path_length=None))
        )

    def sign(
        self, name: str, organisation: str | None = None, days: float = 2.0
    ) -> tuple[Path, Path]:
        """The files of a certificate for this subject.

        Which is good at the loopback addresses for so many days from now.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        here = x509.SubjectAlternativeName([x509.IPAddress(ip_address(host)) for host in HOSTS])
        pem, secret = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        pem.write_bytes(self._signed(named(name, organisation), key, here, days))
        encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        secret.write_bytes(key.private_bytes(encoding, form, serialization.NoEncryption()))
        return pem, secret

    def trusting(self, files: tuple[Path, Path] | None = None) -> ssl.SSLContext:
        """What a client needs that trusts this authority.

        And shows the certificate in these files.
        """
        context = ssl.create_default_context(cafile=self.pem)
        if files is not None:
            context.load_cert_chain(*files)
        return context

    def _signed(
        self,
        subject: x509.Name,
        key: ec.EllipticCurvePrivateKey,
        extension: x509.ExtensionType,
        days: float = 2.0,
    ) -> bytes:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=10))
            .not_valid_after(now + timedelta(days=days))
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
        )
        if not isinstance(extension, x509.BasicConstraints):
            issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
            builder = builder.add_extension(issuer, critical=False)
        else:
            own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
            builder = builder.add_extension(own, critical=False)
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def named(name: str, organisation: str | None = None) -> x509.Name:
    """The subject `O=organisation, CN=name`."""
    parts = [(NameOID.ORGANIZATION_NAME, organisation), (NameOID.COMMON_NAME, name)]
    return x509.Name(
        [x509.NameAttribute(kind, value) for kind, value in parts if value is not None]
    )
