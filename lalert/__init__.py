"""lalert: an open disaster-alert hub that takes CAP in, keeps it, and tells everybody concerned."""

__version__ = "0.1.0"
