"""The hub's own HTTP: the public API, the pages, health and metrics. It asks the hub and decides nothing."""
