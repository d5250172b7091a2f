"""Builds the Grafana dashboards; their JSON lies beside."""
