"""Identifiers: equal ones are equal, impossible ones are refused, none is shown."""

from __future__ import annotations

import pytest

from lastunit.account.identifiers import Identifier, IdentifierError


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Identifier.email("Anna@Example.ORG"), Identifier.email("anna@example.org")),
        (Identifier.phone("+49 30 123456"), Identifier.phone("+4930123456")),
        (Identifier.phone("+49 (0)30 123456"), Identifier.phone("+4930123456")),
    ],
)
def test_ways_of_writing_one_identifier_are_equal(one: Identifier, other: Identifier) -> None:
    """Case and spacing do not make a second human."""
    assert one == other


@pytest.mark.parametrize("text", ["+999123456789", "+1234567", "+15550100", "12025550123", "x"])
def test_phone_numbers_that_no_country_has_are_refused(text: str) -> None:
    """The error does not repeat the number."""
    with pytest.raises(IdentifierError) as caught:
        Identifier.phone(text)

    assert text not in str(caught.value)


@pytest.mark.parametrize("text", ["a b@example.org", "anna@localhost", "anna@", "@example.org"])
def test_addresses_that_no_mail_reaches_are_refused(text: str) -> None:
    """The error does not repeat the address."""
    with pytest.raises(IdentifierError) as caught:
        Identifier.email(text)

    assert text not in str(caught.value)


@pytest.mark.parametrize(
    ("identifier", "mask"),
    [
        (Identifier.phone("+4930123456"), "+49*****456"),
        (Identifier.email("anna.smith@mail.example.org"), "a*****@m*****.org"),
        (Identifier.email("a@b.de"), "a*****@b*****.de"),
    ],
)
def test_masks_show_little(identifier: Identifier, mask: str) -> None:
    """The mask is what a representation shows too, because that ends in logs."""
    assert identifier.masked() == mask
    assert identifier.normalized not in repr(identifier)
