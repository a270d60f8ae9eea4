"""Agents: what answers. Each module is one of them; `gateway.load` finds them, and yours."""
