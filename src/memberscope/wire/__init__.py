"""Serving protocols from both ends: records to requests, answers to outputs; shared by targets over HTTP and the guard."""
