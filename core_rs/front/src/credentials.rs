//! What callers are known by: tokens, and names in certificates.
//!
//! Owns: the form in which they are handed over, and the comparison of a token in constant time.
//! Must not: know what a caller may do. Where next: `door.rs`.

use std::collections::HashMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// Longer tokens are refused before anything is computed of them.
const TOKEN_BYTES_MAX: usize = 256;

/// Bytes of a digest.
const DIGEST_BYTES: usize = 32;

/// Compared with when the id is unknown, so that an unknown id takes as long as a wrong secret.
const NOBODY: [u8; DIGEST_BYTES] = [0; DIGEST_BYTES];

/// Callers are known by this; replaced as a whole.
#[derive(Debug, Default)]
pub struct Credentials {
    tokens: Option<HashMap<String, Token>>,
    certificates: HashMap<String, String>,
    has_certificates: bool,
}

#[derive(Debug)]
struct Token {
    caller: String,
    digest: [u8; DIGEST_BYTES],
    expires_ms: Option<u64>,
}

/// Credentials in another form than they should have.
#[derive(Debug, thiserror::Error)]
#[error("credentials: {0}")]
pub struct CredentialsError(String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CredentialsText {
    tokens: Option<Vec<TokenText>>,
    certificates: HashMap<String, String>,
    has_certificates: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenText {
    id: String,
    caller: String,
    sha256: String,
    expires_ms: Option<u64>,
}

impl Credentials {
    /// Reads `{"tokens": null | [{"id", "caller", "sha256", "expires_ms"}], "certificates":
    /// {"CN:name": "caller"}, "has_certificates": bool}`. A digest is of the whole token
    /// `<id>.<secret>`, 64 hexadecimal digits; `expires_ms` is since the epoch, null for never.
    ///
    /// # Errors
    /// The text has another form.
    pub fn from_json(text: &str) -> Result<Self, CredentialsError> {
        let text: CredentialsText =
            serde_json::from_str(text).map_err(|error| CredentialsError(error.to_string()))?;
        let tokens = text
            .tokens
            .map(|tokens| tokens.into_iter().map(token).collect());
        Ok(Self {
            tokens: tokens.transpose()?,
            certificates: text.certificates,
            has_certificates: text.has_certificates,
        })
    }

    /// Whether names must be proved.
    pub(crate) fn is_on(&self) -> bool {
        self.takes_tokens() || self.has_certificates
    }

    pub(crate) fn takes_tokens(&self) -> bool {
        self.tokens.is_some()
    }

    pub(crate) fn has_certificates(&self) -> bool {
        self.has_certificates
    }

    /// Whom a name in a certificate stands for.
    pub(crate) fn by_certificate(&self, name: &str) -> Option<&str> {
        self.certificates.get(name).map(String::as_str)
    }

    /// Whose token it is; none if it is unknown, wrong or expired.
    pub(crate) fn by_token(&self, token: &str) -> Option<&str> {
        if token.len() > TOKEN_BYTES_MAX {
            return None;
        }
        let id = token.split('.').next().unwrap_or_default();
        let known = self.tokens.as_ref()?.get(id);
        let digest = Sha256::digest(token.as_bytes());
        let expected = known.map_or(&NOBODY, |known| &known.digest);
        let is_equal = bool::from(digest.as_slice().ct_eq(expected));
        let known = known.filter(|_| is_equal)?;
        let is_in_time = known.expires_ms.is_none_or(|end| now_ms() < end);
        is_in_time.then_some(known.caller.as_str())
    }
}

fn token(text: TokenText) -> Result<(String, Token), CredentialsError> {
    let wrong = || CredentialsError(format!("token {}: the digest is not 64 digits", text.id));
    let digest = digest(&text.sha256).ok_or_else(wrong)?;
    let token = Token {
        caller: text.caller,
        digest,
        expires_ms: text.expires_ms,
    };
    Ok((text.id, token))
}

fn digest(digits: &str) -> Option<[u8; DIGEST_BYTES]> {
    let mut digest = [0; DIGEST_BYTES];
    if digits.len() != 2 * DIGEST_BYTES || !digits.is_ascii() {
        return None;
    }
    for (place, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * place..2 * place + 2], 16).ok()?;
    }
    Some(digest)
}

/// Milliseconds since the epoch, by the machine's clock.
fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(expires_ms: &str) -> Credentials {
        // The digest of `orders-1.secret`.
        let digest = Sha256::digest(b"orders-1.secret");
        let digits = format!("{digest:x}");
        let text = format!(
            r#"{{"tokens": [{{"id": "orders-1", "caller": "orders", "sha256": "{digits}",
                "expires_ms": {expires_ms}}}], "certificates": {{}}, "has_certificates": false}}"#
        );
        Credentials::from_json(&text).expect("has the form")
    }

    #[test]
    fn only_the_whole_token_names_its_caller() {
        let credentials = credentials("null");

        assert_eq!(Some("orders"), credentials.by_token("orders-1.secret"));
        for wrong in [
            "",
            "orders-1",
            "orders-1.secre",
            "orders-1.secret ",
            "x.secret",
        ] {
            assert_eq!(None, credentials.by_token(wrong), "{wrong}");
        }
        assert_eq!(None, credentials.by_token(&"x".repeat(300)));
    }

    #[test]
    fn an_expired_token_names_nobody() {
        assert_eq!(None, credentials("1000").by_token("orders-1.secret"));
        assert!(
            credentials("99999999999999")
                .by_token("orders-1.secret")
                .is_some()
        );
    }

    #[test]
    fn digests_of_another_form_are_refused() {
        for digits in ["", "00", &"g".repeat(64), &"é".repeat(32)] {
            assert!(digest(digits).is_none(), "{digits}");
        }
    }
}
