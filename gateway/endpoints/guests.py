"""Visitors without an account: they get a token, and are users like any other."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from gateway.addresses import caller_at
from gateway.adoption import adopt as adopt_guest
from gateway.forwarded import peer_of
from gateway.http import Api, described, json_response, read_body, route
from protocol import about
from protocol.errors import Refused
from protocol.ids import is_guest

if TYPE_CHECKING:
    from gateway.guests import Guests

__all__ = ["routes"]


def routes(api: Api) -> list[Route]:
    """There are none to be had unless the gateway lets guests in: the answer is 404 then."""
    return [
        route("/guest", POST=partial(admit, api)),
        route("/guest/adopt", POST=partial(adopt, api)),
    ]


@described(answer=about.Guest, public=True, errors=("unauthenticated", "token_expired", "not_found"))
async def admit(api: Api, request: Request) -> Response:
    """A token for a visitor without an account; with a guest's token, a new one for the same guest.

    The token that is renewed is shown as any other is.
    """
    guests = _guests(api)
    api.supervisor.usage.guest(caller_at(peer_of(request.scope)))
    token, user, expires_at = await guests.admit(api.token(request.headers, {}))
    return json_response(about.Guest(token, user, expires_at), headers={"Cache-Control": "no-store"})


@described(
    body=about.Adopt, answer=about.Adopted, errors=("bad_request", "not_found", "session_busy", "draining")
)
async def adopt(api: Api, request: Request) -> Response:
    """A guest becomes the user who asks, and its sessions that user's.

    It is done once: the guest's tokens are over with it, and nobody else can have its sessions. Turns that
    run are waited for; after `session_busy` the same request goes on where it stopped.
    """
    identity = await api.caller(request)
    guests = _guests(api)
    if identity.everyone:
        raise Refused("bad_request", "Name the user that the guest becomes: X-User-Id.")
    if is_guest(identity.user):
        raise Refused("forbidden", "A guest cannot have another guest's conversations: come as a user.")
    if api.runtime.draining:
        raise Refused("draining", "The gateway stops; ask the next one.")
    body = await read_body(request, api, about.Adopt)
    guest, until = await guests.adoptable(body.token)
    moved = await adopt_guest(api.supervisor, guest, identity.user, until)
    sessions = [about.AdoptedSession(key.agent, key.session_id, before) for key, before in moved]
    return json_response(about.Adopted(identity.user, sessions))


def _guests(api: Api) -> Guests:
    if api.guests is None:
        raise Refused("not_found", "This gateway takes no guests; see --guests.")
    return api.guests
