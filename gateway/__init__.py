"""Trunkline: many AI-agent conversations over one WebSocket.

What an agent's author needs is importable from here; everything else from the module that owns it.
"""

from .interfaces import AgentError, Alive, Limits, Note, Thought, ToolCall, ToolResult, Turn, Usage

__all__ = [
    "AgentError",
    "Alive",
    "Limits",
    "Note",
    "Thought",
    "ToolCall",
    "ToolResult",
    "Turn",
    "Usage",
    "__version__",
]

__version__ = "0.1.0"
