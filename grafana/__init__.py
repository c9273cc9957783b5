"""Dashboards, provisioning and Grafana's own alert rules as code; what ships is the JSON and YAML this writes."""
