"""Visitors without an account: they get a token, and are users like any other."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.addresses import caller_at
from gateway.forwarded import peer_of
from gateway.http import Api, described, json_response, route
from protocol import about
from protocol.errors import Refused

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """There are none to be had unless the gateway lets guests in: the answer is 404 then."""
    return [route("/guest", POST=partial(admit, api))]


@described(answer=about.Guest, public=True, errors=("unauthenticated", "token_expired", "not_found"))
async def admit(api: Api, request: Request) -> Response:
    """A token for a visitor without an account; with a guest's token, a new one for the same guest.

    The token that is renewed is shown as any other is.
    """
    if api.guests is None:
        raise Refused("not_found", "This gateway takes no guests; see --guests.")
    api.supervisor.usage.guest(caller_at(peer_of(request.scope)))
    token, user, expires_at = await api.guests.admit(api.token(request.headers, {}))
    return json_response(about.Guest(token, user, expires_at), headers={"Cache-Control": "no-store"})
