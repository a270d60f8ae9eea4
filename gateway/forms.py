"""Bodies of HTML forms: multipart, and URL-encoded."""

from __future__ import annotations

from typing import NamedTuple

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.types import Message

from protocol.errors import Refused

__all__ = ["Form", "is_form", "read_form"]

_KINDS = ("multipart/form-data", "application/x-www-form-urlencoded")
_MAX_FILES = 16
_MAX_FIELDS = 64


class Form(NamedTuple):
    """What a form held; files are not kept."""

    texts: dict[str, list[str]]
    """The texts of each field, in order."""
    files: frozenset[str]
    """Fields that held a file. An empty one is what a browser sends where none was chosen."""

    def text(self, name: str) -> str:
        """The last text of that field; empty if there is none."""
        return self.texts.get(name, [""])[-1]


def is_form(request: Request) -> bool:
    """Is its body a form, by its content type?"""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower() in _KINDS


async def read_form(request: Request, limit: int) -> Form:
    """The request's body, a form of at most `limit` bytes. Raises `Refused`."""
    left = limit

    async def receive() -> Message:
        nonlocal left
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise Refused("frame_too_large", f"A body may have {limit:,} bytes.", limit=limit)
        return message

    texts: dict[str, list[str]] = {}
    files = set()
    bounded = Request(request.scope, receive)
    try:
        async with bounded.form(max_files=_MAX_FILES, max_fields=_MAX_FIELDS, max_part_size=limit) as form:
            for name, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    value.encode()  # half a character is none
                    texts.setdefault(name, []).append(value)
                elif value.size:
                    files.add(name)
    except HTTPException as error:
        raise Refused("bad_request", f"The body is not a form: {error.detail}") from None
    except ValueError:  # a charset that cannot be, and what else its codecs raise
        raise Refused("bad_request", "The body is not a form.") from None
    except ClientDisconnect:
        raise Refused("bad_request", "The body ended too early.") from None
    return Form(texts, frozenset(files))
