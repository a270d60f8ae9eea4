"""What clients talk to: the WebSocket, SSE, and one file per REST surface. Each maps shapes and decides
nothing."""
