"""What lies on disk beside code: tables, digests, provenance, the environment and its drift."""
