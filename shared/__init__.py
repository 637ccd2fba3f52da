"""The vocabulary and the plumbing that every service stands on. Imports no service."""
