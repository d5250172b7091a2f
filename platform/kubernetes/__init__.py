"""The cloud domain as a Kubernetes scheduler extender."""
