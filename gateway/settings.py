"""One frozen Settings: what can be set, what it means, and what it is if nobody says."""

from __future__ import annotations

from msgspec import Struct

__all__ = ["Settings"]


class Settings(Struct, frozen=True, kw_only=True):
    """Everything that can be set. Sizes are bytes, times seconds, unless the name says otherwise."""

    allow_hosts: tuple[str, ...] = ()
    max_frame_bytes: int = 256 << 10
    max_message_bytes: int = 1 << 20
    max_hello_bytes: int = 8 << 10
    max_content_chars: int = 65_536
    max_metadata_bytes: int = 10 << 10
    max_metadata_depth: int = 16
    max_body_bytes: int = 2 << 20
    max_text_chars: int = 1 << 20
    max_tool_bytes: int = 256 << 10
    max_turn_tool_bytes: int = 4 << 20
    max_delta_chars: int = 16 << 10
    max_history_bytes: int = 1 << 20
    max_history: int = 200
    max_agent_history_bytes: int = 4 << 20
    max_reply_bytes: int = 32 << 20
    max_sessions: int = 1_000
    max_waiting: int = 16
    max_asking: int = 1_024
    max_control_bytes: int = 64 << 10
    batch_bytes: int = 64 << 10
    quantum_bytes: int = 4 << 10
    tail_bytes: int = 64 << 10
    page_bytes: int = 256 << 10
    max_errands: int = 64
    save_interval: float = 0.2
    save_bytes: int = 16 << 10
    max_unsaved_bytes: int = 256 << 10
    first_output_timeout: float = 60.0
    silence_timeout: float = 60.0
    turn_timeout: float = 600.0
    cleanup_timeout: float = 5.0
    hello_timeout: float = 5.0
    heartbeat: float = 20.0
    stuck_timeout: float = 30.0
    typing_timeout: float = 10.0
    due_interval: float = 5.0
    trim_interval: float = 600.0
    drain_timeout: float = 10.0
    reconnect_after: float = 1.0
