"""The operator page: what the daemon shows to people, read-only, without any outside request."""

from .site import routes

__all__ = ["routes"]
