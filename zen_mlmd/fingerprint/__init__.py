"""Has a step's code changed? Fingerprints of a function and of the project's code that it uses."""

from zen_mlmd.fingerprint.explore import (
    Fingerprint,
    code_fingerprint,
    explain_fingerprint,
    fingerprint_of,
)

__all__ = ["Fingerprint", "code_fingerprint", "explain_fingerprint", "fingerprint_of"]
