"""Has a step's code changed? Fingerprints of a function and of the project's code that it uses."""

from zen_mlmd.fingerprint.explore import code_fingerprint, explain_fingerprint

__all__ = ["code_fingerprint", "explain_fingerprint"]
