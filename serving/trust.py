"""Whose word the clients of a project take when the inference port speaks TLS."""

import ssl
from typing import Final

from lastgood.errors import ConfigurationError
from lastgood.settings import Settings

_BEGIN: Final = "-----BEGIN CERTIFICATE-----"
_END: Final = "-----END CERTIFICATE-----"


def trust(settings: Settings) -> ssl.SSLContext | bool:
    """
    Give whom a client of this project's inference port trusts: the authorities of ``ca_file``, or the one certificate it is set up with.

    That certificate is trusted for itself, whatever names are in it and whoever signed it: only the gateway has its key.

    Raises:
        ConfigurationError: The file cannot be read, or holds no certificate.
    """
    front = settings.front
    path = front.ca_file or front.tls_certificate
    if path is None:
        return True
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        text = path.read_text("ascii")
        if front.ca_file is None:
            text = text[text.index(_BEGIN) : text.index(_END) + len(_END)] + "\n"  # its own comes first
            context.check_hostname = False
            context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        context.load_verify_locations(cadata=text)
    except (OSError, ValueError) as exc:  # SSLError is an OSError
        raise ConfigurationError(f"{path} cannot be used to trust the gateway ({exc}). Expected a PEM file with certificates.") from exc
    return context
