"""What a gateway tells of itself and of its agents: the shapes of those answers.

They are OpenFang's and ADK's, whose clients ask for them. A gateway knows its agents' names and nothing of
their models: what it does not know is there and empty, for clients that read it.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from msgspec import Meta, Struct

__all__ = [
    "Adopt",
    "Adopted",
    "AdoptedSession",
    "Agent",
    "Capabilities",
    "Guest",
    "Health",
    "Identity",
    "ListedAgent",
    "Model",
    "Readiness",
    "Running",
    "Status",
    "Version",
]

PROVIDER = "trunkline"
Date: TypeAlias = Annotated[
    str, Meta(description="ISO 8601, in UTC.", extra_json_schema={"format": "date-time"})
]

# ── Agents ──────────────────────────────────────────────────────────────────────────────────────────────────


class Identity(Struct, frozen=True):
    """How an agent looks."""

    emoji: str | None = None
    avatar_url: str | None = None
    color: str | None = None


class _Named(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    created_at: Date
    """When the gateway was started."""
    state: Literal["Running"] = "Running"
    mode: Literal["full"] = "full"
    profile: str | None = None
    identity: Identity = Identity()


class ListedAgent(_Named, frozen=True, kw_only=True):
    """An agent in a list."""

    last_active: Date
    model_name: str
    is_inferencing: bool
    """It answers the caller right now."""
    model_provider: str = PROVIDER
    model_tier: str = "unknown"
    auth_status: str = "unknown"
    ready: bool = True


class Model(Struct, frozen=True):
    """What an agent thinks with."""

    model: str
    provider: str = PROVIDER


class Capabilities(Struct, frozen=True):
    """What an agent may do."""

    tools: list[str] = []
    network: list[str] = []


class Agent(_Named, frozen=True, kw_only=True):
    """One agent."""

    session_id: str | None
    """The caller's active session with it."""
    model: Model
    capabilities: Capabilities = Capabilities()
    description: str = ""
    system_prompt: str = ""
    tags: list[str] = []
    skills: list[Any] = []
    skills_mode: str = "all"
    mcp_servers: list[Any] = []
    mcp_servers_mode: str = "all"
    fallback_models: list[Any] = []


# ── Its callers ─────────────────────────────────────────────────────────────────────────────────────────────


class Guest(Struct, frozen=True):
    """A visitor without an account."""

    token: str
    """Shown like a user's: `Authorization: Bearer …`, or in `hello`."""
    user_id: str
    expires_at: float
    """When the token ends, Unix seconds."""


class Adopt(Struct, frozen=True):
    """Whose sessions are to become the caller's."""

    token: str
    """A guest's."""


class AdoptedSession(Struct, frozen=True):
    """A session that was a guest's and is the caller's now."""

    agent: str
    session_id: str
    guest_session_id: str
    """Its id before: another one, if the caller had a session of that id."""


class Adopted(Struct, frozen=True):
    """What became of a guest's sessions."""

    user_id: str
    sessions: list[AdoptedSession]
    """Those that were moved now, and not when this was asked before."""


# ── The gateway ─────────────────────────────────────────────────────────────────────────────────────────────


class Readiness(Struct, frozen=True):
    """Whether it lives, or takes messages."""

    status: Literal["ok", "draining", "store unavailable"] = "ok"


class Health(Struct, frozen=True):
    """Whether all is well, as far as is known without asking the store."""

    status: Literal["ok", "degraded"]
    version: str


class Version(Struct, frozen=True, kw_only=True):
    """Which version of what. What an installed package does not know of itself is there and empty."""

    version: str
    language_version: str
    platform: str
    arch: str
    name: str = PROVIDER
    language: str = "python"
    build_date: str = ""
    git_sha: str = ""
    rust_version: str = ""


class Running(Struct, frozen=True):
    """An agent that runs here."""

    id: str
    name: str
    state: Literal["Running"] = "Running"


class Status(Struct, frozen=True, kw_only=True):
    """What runs here."""

    status: Literal["running", "draining"]
    version: str
    agent_count: int
    default_model: str
    uptime_seconds: int
    agents: list[Running]
    default_provider: str = PROVIDER
