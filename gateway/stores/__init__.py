"""Where logs live: one module per store, each of them all of `gateway.interfaces.Store`."""
