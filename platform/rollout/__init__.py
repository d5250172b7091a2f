"""Bundles in service: registry, verification, swap, shadow, canary, rollback."""
