"""Who makes tokens: keys of every kind, and a server that publishes them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm


@cache
def private(kind: str) -> Any:
    match kind:
        case "rsa":
            return rsa.generate_private_key(65537, 2048)
        case "rsa short":
            return rsa.generate_private_key(65537, 1024)
        case "dsa":
            return dsa.generate_private_key(2048)
        case "ed25519":
            return ed25519.Ed25519PrivateKey.generate()
        case "ed448":
            return ed448.Ed448PrivateKey.generate()
        case _:
            return ec.generate_private_key(getattr(ec, kind)())


def pem(kind: str) -> str:
    return private(kind).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def private_pem(kind: str) -> str:
    return private(kind).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def jwk(kind: str, **fields: Any) -> dict[str, Any]:
    public = private(kind).public_key()
    algorithm: Any = RSAAlgorithm if kind.startswith("rsa") else ECAlgorithm
    if kind.startswith("ed"):
        algorithm = OKPAlgorithm
    return {**algorithm.to_jwk(public, as_dict=True), **fields}


def key_set(*jwks: dict[str, Any]) -> bytes:
    return json.dumps({"keys": jwks}).encode()


def token(kind: str, algorithm: str, kid: str | None = None, /, **claims: Any) -> str:
    """A token of Ann's that the private key of that kind signed."""
    headers = None if kid is None else {"kid": kid}
    return jwt.encode({"sub": "ann", "exp": 9e9} | claims, private(kind), algorithm, headers)


class Issuer:
    """A server that publishes `body` with `status`, as soon as it is not held."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.body = b""
        self.asked = 0
        """How often it was asked."""
        self.held = asyncio.Event()
        self.held.set()
        self.came = asyncio.Event()
        """It is being asked."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            self.asked += 1
            self.came.set()
            await self.held.wait()
            head = (
                f"HTTP/1.1 {self.status} X\r\nContent-Length: {len(self.body)}\r\nConnection: close\r\n\r\n"
            )
            writer.write(head.encode() + self.body)
            await writer.drain()
        writer.close()


@asynccontextmanager
async def issuer(*jwks: dict[str, Any]) -> AsyncIterator[Issuer]:
    """An issuer that publishes these keys."""
    made = Issuer()
    made.body = key_set(*jwks)
    server = await asyncio.start_server(made.answer, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
    try:
        yield made
    finally:
        made.held.set()
        server.close()
