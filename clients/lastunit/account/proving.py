"""Proofs that an account is the caller's: a fresh session, or a code for one of its identifiers.

Owns what counts as a proof. Must not decide what a proof is good for.
Next: `lastunit.account.codes`, `lastunit.account.sessions`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from lastunit.account import codes, identifier_rows, sessions
from lastunit.account.identifiers import Identifier, IdentifierError
from lastunit.account.moves import Cause
from lastunit.account.v1 import account_service_pb2 as pb

if TYPE_CHECKING:
    import sqlalchemy as sa

    from lastunit.account.vault import Vault

__all__ = ["FRESH_SECONDS", "Checked", "Proofs", "refusal_of"]

FRESH_SECONDS: Final = 300
"""Who logged in longer ago may have left the place since."""


class Checked(NamedTuple):
    """Says what a proof proves.

    Attributes:
        account_id: Whose account it proves; empty if it proves nothing.
        refusal: Why it proves nothing; unspecified if it does.
    """

    account_id: str
    refusal: pb.Refusal.ValueType = pb.REFUSAL_UNSPECIFIED


def refusal_of(verdict: codes.Verdict) -> pb.Refusal.ValueType:
    """Returns how the contract calls a verdict."""
    return {
        codes.Verdict.GOOD: pb.REFUSAL_UNSPECIFIED,
        codes.Verdict.BAD: pb.REFUSAL_PROOF_BAD,
        codes.Verdict.EXPIRED: pb.REFUSAL_PROOF_EXPIRED,
    }[verdict]


class Proofs:
    """Checks proofs inside of transactions.

    Args:
        vault: Lends the keys.
    """

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def check(self, connection: sa.Connection, proof: pb.Proof, now_ms: int) -> Checked:
        """Says whose account a proof proves; a code is used up by it.

        Args:
            connection: Inside a transaction of the writer, which must commit even if the proof is
                refused: a wrong code counts.
            proof: A session or a code for the purpose PROVE.
            now_ms: Milliseconds since the epoch.
        """
        if proof.HasField("session_token"):
            return self._check_session(connection, proof.session_token, now_ms)
        return self.check_code(connection, proof.code, now_ms)

    def check_code(self, connection: sa.Connection, proof: pb.CodeProof, now_ms: int) -> Checked:
        """Does what `check` does for a code alone."""
        try:
            identifier = Identifier.of(proof.identifier)
        except IdentifierError:
            return Checked("", pb.REFUSAL_PROOF_BAD)
        ring = self._vault.ring(connection)
        verdict = codes.check(
            connection, ring, identifier, pb.CODE_PURPOSE_PROVE, proof.code, now_ms=now_ms
        )
        if verdict is not codes.Verdict.GOOD:
            return Checked("", refusal_of(verdict))
        row = identifier_rows.find(connection, ring, identifier)
        if row is None:
            return Checked("", pb.REFUSAL_PROOF_BAD)
        cause = Cause("proof", now_ms)
        identifier_rows.note_proof(connection, ring, row, identifier, cause)
        return Checked(row.account_id)

    def _check_session(self, connection: sa.Connection, token: str, now_ms: int) -> Checked:
        session = sessions.find(connection, token, now_ms)
        if session is None:
            return Checked("", pb.REFUSAL_PROOF_BAD)
        if now_ms > session.create_ms + FRESH_SECONDS * 1_000:
            return Checked("", pb.REFUSAL_PROOF_EXPIRED)
        return Checked(session.account_id)
