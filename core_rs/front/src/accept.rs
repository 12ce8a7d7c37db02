//! Connections as they come in: bounded in number, and dropped if they say nothing.
//!
//! Owns: what one connection may cost before its first call, encrypted or not. Must not: understand
//! a byte of it. Where next: `guard.rs`, `connection.rs`.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::connection::Keeper;
use crate::crowd::{Crowd, Place, Reason};
use crate::guard::Guarded;
use crate::peer::Peer;
use crate::tls::Encryption;

/// How long to wait when the machine has no more file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// Accepts until it is stopped.
pub(crate) async fn accept(
    listener: TcpListener,
    encryption: Option<Arc<Encryption>>,
    keeper: Keeper,
    crowd: Arc<Crowd>,
    mut stopped: watch::Receiver<bool>,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stopped.wait_for(|is_stopping| *is_stopping) => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, address)) = accepted else {
            tokio::time::sleep(ACCEPT_RETRY).await;
            continue;
        };
        let Ok(place) = crowd.enter(address.ip()) else {
            continue;
        };
        // Without it a reply of a few hundred bytes may wait for the next acknowledgement.
        if stream.set_nodelay(true).is_err() {
            continue;
        }
        let (keeper, encryption) = (keeper.clone(), encryption.clone());
        tokio::spawn(async move {
            let place = Arc::new(place);
            let served = serve(stream, Peer::at(address), encryption, keeper, &place);
            tokio::select! {
                biased;
                // What is open on it then is cut.
                () = place.activity.until_sent_away() => {}
                () = served => {}
            }
        });
    }
}

async fn serve(
    stream: TcpStream,
    mut peer: Peer,
    encryption: Option<Arc<Encryption>>,
    keeper: Keeper,
    place: &Arc<Place>,
) {
    let limits = keeper.limits().clone();
    let Some(encryption) = encryption else {
        let stream = Guarded::new(stream, Arc::clone(place), &limits);
        return keeper.serve(stream, peer, &place.activity).await;
    };
    let shaking = encryption.acceptor().accept(stream);
    // A stranger that fails it hears so from the protocol.
    let stream = match tokio::time::timeout(limits.handshake(), shaking).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return place.count(Reason::HandshakeFailed),
        Err(_) => return place.count(Reason::HandshakeLate),
    };
    let shown = stream.get_ref().1.peer_certificates();
    if let Some(own) = shown.and_then(|chain| chain.first()) {
        peer.name_by(own);
    }
    let stream = Guarded::new(stream, Arc::clone(place), &limits);
    keeper.serve(stream, peer, &place.activity).await;
}
