"""The cloud domain as a Kubernetes scheduler extender."""

from .service import routes

__all__ = ["routes"]
