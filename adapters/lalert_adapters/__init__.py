"""The adapters that come with lalert; each is found by its entry point and uses only what third parties get."""
