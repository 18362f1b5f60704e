"""The store of many nodes: a Redis or Valkey server that keeps all, and nodes that keep nothing."""
