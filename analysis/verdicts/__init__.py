"""Verdicts on the papers' claims: rules, the evidence they look at, what follows, and how it is told."""
