//! Who calls: asked at the start of each call, and again in a stream when the answer may differ.
//!
//! Owns: the proof of a caller's name. Must not: judge what it may do; the node's table does.
//! Without credentials callers name themselves in `lastunit-caller`; with them that key proves
//! nothing and is not looked at. Where next: `credentials.rs`.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use lastunit_node::{Node, Subject};
use lastunit_wire::{Code, Fault, Method};
use tonic::Status;
use tonic::metadata::MetadataMap;

use crate::caller::Caller;
use crate::credentials::Credentials;
use crate::peer::Peer;
use crate::{faults, status};

const AUTHORIZATION_KEY: &str = "authorization";
const SCHEME: &str = "bearer ";

/// What callers are known by, now.
#[derive(Default)]
pub(crate) struct Door {
    credentials: RwLock<Arc<Credentials>>,
    /// Rises with each change, so that streams look again. Release and Acquire: who sees the number
    /// sees the credentials.
    generation: AtomicU64,
    /// Written by refused callers only.
    unknown: Mutex<Option<UnknownCallers>>,
}

/// Callers that were not let in since this was last taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownCallers {
    /// Where the last one called from.
    pub peer: String,
    /// What it was told.
    pub reason: String,
    /// How many there were, 1 or more.
    pub count: u64,
}

impl Door {
    pub(crate) fn new(credentials: Credentials) -> Self {
        Self {
            credentials: RwLock::new(Arc::new(credentials)),
            generation: AtomicU64::new(0),
            unknown: Mutex::default(),
        }
    }

    /// Takes what there is to log of callers that were not let in.
    pub(crate) fn take_unknown(&self) -> Option<UnknownCallers> {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        unknown.take()
    }

    fn note(&self, fault: &Fault, peer: &Peer) {
        let mut unknown = self.unknown.lock().unwrap_or_else(PoisonError::into_inner);
        let before = unknown.as_ref().map_or(0, |unknown| unknown.count);
        *unknown = Some(UnknownCallers {
            peer: peer.address.to_string(),
            reason: fault.message.clone(),
            count: before.saturating_add(1),
        });
    }

    /// Puts other credentials in force, for open streams too.
    pub(crate) fn replace(&self, credentials: Credentials) {
        let mut held = self
            .credentials
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        *held = Arc::new(credentials);
        self.generation.fetch_add(1, Ordering::Release);
    }

    fn credentials(&self) -> Arc<Credentials> {
        let held = self
            .credentials
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&held)
    }

    /// Finds who calls.
    ///
    /// # Errors
    /// Metadata of another form, or a name that is not proved.
    pub(crate) fn caller(&self, metadata: &MetadataMap, peer: &Peer) -> Result<Caller, Fault> {
        let mut caller = Caller::from_metadata(metadata)?;
        let credentials = self.credentials();
        if credentials.is_on() {
            let name = proved_name(&credentials, peer, token(metadata).as_deref());
            caller.name = name.inspect_err(|fault| self.note(fault, peer))?;
        }
        Ok(caller)
    }

    /// Finds who opens a stream; as `caller`.
    pub(crate) fn visit(&self, metadata: MetadataMap, peer: &Arc<Peer>) -> Result<Visit, Fault> {
        let generation = self.generation.load(Ordering::Acquire);
        let caller = self.caller(&metadata, peer)?;
        let peer = Arc::clone(peer);
        Ok(Visit {
            caller,
            metadata,
            peer,
            generation,
        })
    }
}

/// One stream's caller.
pub(crate) struct Visit {
    pub(crate) caller: Caller,
    metadata: MetadataMap,
    peer: Arc<Peer>,
    generation: u64,
}

impl Visit {
    /// Looks whether the stream may go on: costs one load while nothing has changed.
    ///
    /// # Errors
    /// The caller has lost its name, or its right to the method.
    pub(crate) fn stay(
        &mut self,
        door: &Door,
        node: &Node,
        method: Method,
        subject: Subject<'_>,
    ) -> Result<(), Status> {
        if self.stay_named(door)? {
            return Ok(());
        }
        permit(node, &self.caller, method.name(), subject)
    }

    /// Looks whether the caller still has its name; tells whether nothing at all has changed.
    ///
    /// # Errors
    /// It has lost it.
    pub(crate) fn stay_named(&mut self, door: &Door) -> Result<bool, Status> {
        let generation = door.generation.load(Ordering::Acquire);
        if generation == self.generation {
            return Ok(true);
        }
        self.generation = generation;
        let credentials = door.credentials();
        if credentials.is_on() {
            let token = token(&self.metadata);
            let name = proved_name(&credentials, &self.peer, token.as_deref());
            let name = name.map_err(|fault| faults::status_of(&fault))?;
            if name != self.caller.name {
                let text = "this stream's caller has another name now";
                let fault = unauthenticated("CALLER_CHANGED", text);
                return Err(faults::status_of(&fault));
            }
        }
        Ok(false)
    }
}

/// Asks the node's table about what the node is not handed as a call.
pub(crate) fn permit(
    node: &Node,
    caller: &Caller,
    method: &str,
    subject: Subject<'_>,
) -> Result<(), Status> {
    match node.permission_refusal(&caller.name, method, subject) {
        None => Ok(()),
        Some(answer) => status::of(answer).map(drop),
    }
}

fn proved_name(
    credentials: &Credentials,
    peer: &Peer,
    token: Option<&str>,
) -> Result<String, Fault> {
    let known = |name: &String| credentials.by_certificate(name);
    let by_certificate: BTreeSet<&str> = peer.names.iter().filter_map(known).collect();
    if by_certificate.len() > 1 {
        let text = "the certificate names several callers, use one that names a single one";
        return Err(unauthenticated("CERTIFICATE_AMBIGUOUS", text));
    }
    let by_certificate = by_certificate.first().copied();
    let Some(token) = token else {
        return by_certificate
            .map(str::to_owned)
            .ok_or_else(|| nobody(credentials));
    };
    let Some(by_token) = credentials.by_token(token) else {
        let text = "the token is unknown, wrong or expired, get a valid one from the operator";
        return Err(unauthenticated("TOKEN_INVALID", text));
    };
    if by_certificate.is_some_and(|name| name != by_token) {
        let text = "certificate and token name different callers, send what belongs together";
        return Err(unauthenticated("CALLER_AMBIGUOUS", text));
    }
    Ok(by_token.to_owned())
}

/// The bearer token; empty if there is something else or more than one.
fn token(metadata: &MetadataMap) -> Option<String> {
    let mut values = metadata.get_all(AUTHORIZATION_KEY).iter();
    let value = values.next()?;
    let text = value.to_str().ok().filter(|_| values.next().is_none());
    let token = text.and_then(|text| {
        let (scheme, token) = text.split_at_checked(SCHEME.len())?;
        scheme
            .eq_ignore_ascii_case(SCHEME)
            .then(|| token.trim().to_owned())
    });
    Some(token.unwrap_or_default())
}

fn nobody(credentials: &Credentials) -> Fault {
    if !credentials.has_certificates() {
        let text = "nobody is named by this call, send metadata authorization: Bearer <token>";
        return unauthenticated("TOKEN_MISSING", text);
    }
    let mut text = "the client's certificate names no known caller; ask the operator to name it \
                    in authentication.certificates"
        .to_owned();
    if credentials.takes_tokens() {
        text.push_str(", or send metadata authorization: Bearer <token>");
    }
    unauthenticated("CALLER_UNKNOWN", &text)
}

fn unauthenticated(reason: &'static str, text: &str) -> Fault {
    Fault::new(Code::Unauthenticated, reason, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(values: &[&str]) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        for value in values {
            metadata.append(AUTHORIZATION_KEY, value.parse().expect("is a value"));
        }
        metadata
    }

    fn credentials() -> Credentials {
        let text = r#"{"tokens": [], "certificates": {"CN:a": "orders", "DNS:b": "payments"},
            "has_certificates": true}"#;
        Credentials::from_json(text).expect("has the form")
    }

    fn peer(names: &[&str]) -> Peer {
        let mut peer = Peer::at(([127, 0, 0, 1], 1).into());
        peer.names = names.iter().map(ToString::to_string).collect();
        peer
    }

    #[test]
    fn a_token_is_taken_from_one_bearer_header_only() {
        assert_eq!(None, token(&metadata(&[])));
        assert_eq!(Some("x.y"), token(&metadata(&["bEaReR x.y "])).as_deref());
        for wrong in [
            &["Basic x"][..],
            &["x"],
            &["Bearer x", "Bearer x"],
            &["bearer"],
        ] {
            assert_eq!(Some(""), token(&metadata(wrong)).as_deref(), "{wrong:?}");
        }
    }

    #[test]
    fn a_certificate_proves_one_known_name_or_none() {
        let credentials = credentials();
        let of = |names: &[&str]| proved_name(&credentials, &peer(names), None);

        assert_eq!(Ok("orders".to_owned()), of(&["CN:a", "DNS:unknown"]));
        assert_eq!(
            "CALLER_UNKNOWN",
            of(&["CN:x"]).expect_err("is not known").reason
        );
        let both = of(&["CN:a", "DNS:b"]).expect_err("are two");
        assert_eq!("CERTIFICATE_AMBIGUOUS", both.reason);
    }

    #[test]
    fn a_wrong_token_is_not_made_good_by_a_certificate() {
        let refused = proved_name(&credentials(), &peer(&["CN:a"]), Some("x.y"));

        assert_eq!("TOKEN_INVALID", refused.expect_err("is wrong").reason);
    }
}
