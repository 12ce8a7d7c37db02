//! All connections of a listener: how many there may be, and who goes when there are too many.
//!
//! Owns: places, and making room. Who only holds a place gives it to who comes: first the oldest
//! that never made a call, then the one whose last call is longest ago; who has a call open stays.
//! When too much waits in memory, the connections that take nothing go, the heaviest first. Must
//! not: know HTTP/2. Where next: `activity.rs`, `accept.rs`.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::activity::{Activity, Totals};
use crate::limits::Limits;

/// How often time goes on and readers are looked at.
const SECOND: Duration = Duration::from_secs(1);

/// How long a connection that takes nothing is watched before it goes because too much waits: a
/// good client takes something in a small part of it.
const CROWDED_WAIT: Duration = Duration::from_millis(50);

/// An attacker with IPv6 has a whole network of this many bits.
const NETWORK_BITS: u32 = 64;

/// Why a connection or a call was refused or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// All places are held by connections with open calls.
    ConnectionsFull,
    /// The same for the places of one address.
    AddressFull,
    /// It had no call and somebody else came.
    MadeRoom,
    /// It did not finish its handshake or its first words in time.
    HandshakeLate,
    /// It failed its handshake.
    HandshakeFailed,
    /// It began a frame and did not end it in time.
    FrameLate,
    /// It sent too many frames that carry nothing.
    ControlFrames,
    /// It took nothing of its answers for too long.
    ReaderLate,
    /// It took nothing of its answers, or sent messages that are not whole, when too much waited.
    WaitingBytes,
    /// A call's message did not come in time, or too many others came after it.
    MessageLate,
}

impl Reason {
    const ALL: [(Self, &'static str); 10] = [
        (Self::ConnectionsFull, "connections_full"),
        (Self::AddressFull, "address_full"),
        (Self::MadeRoom, "made_room"),
        (Self::HandshakeLate, "handshake_late"),
        (Self::HandshakeFailed, "handshake_failed"),
        (Self::FrameLate, "frame_late"),
        (Self::ControlFrames, "control_frames"),
        (Self::ReaderLate, "reader_late"),
        (Self::WaitingBytes, "waiting_bytes"),
        (Self::MessageLate, "message_late"),
    ];
}

/// All connections.
pub(crate) struct Crowd {
    connections_max: usize,
    per_address_max: usize,
    waiting_bytes_max: usize,
    reader_wait: Duration,
    pub(crate) totals: Arc<Totals>,
    inside: Mutex<Inside>,
    refusals: [AtomicU64; Reason::ALL.len()],
}

#[derive(Default)]
struct Inside {
    next: u64,
    /// In the order in which they came.
    members: BTreeMap<u64, Member>,
    per_address: HashMap<IpAddr, usize>,
    /// Sent away and not ended yet.
    leaving: usize,
}

struct Member {
    activity: Arc<Activity>,
    /// How often it was found to have taken nothing, and what it had taken then.
    stalled_seconds: u32,
    taken: u64,
}

impl Crowd {
    pub(crate) fn new(limits: &Limits) -> Arc<Self> {
        Arc::new(Self {
            connections_max: limits.connections_max,
            per_address_max: limits.connections_per_address_max,
            waiting_bytes_max: limits.waiting_bytes_max,
            reader_wait: limits.reader_wait(),
            totals: Arc::default(),
            inside: Mutex::default(),
            refusals: [const { AtomicU64::new(0) }; Reason::ALL.len()],
        })
    }

    /// Gives a new connection a place, if need be that of one that makes no calls.
    ///
    /// # Errors
    /// Every place is held by a connection with open calls; it is counted.
    pub(crate) fn enter(self: &Arc<Self>, address: IpAddr) -> Result<Place, Reason> {
        let address = network_of(address);
        let mut inside = self.inside();
        let of_address = inside.per_address.get(&address).copied().unwrap_or(0);
        let entered = if of_address >= self.per_address_max {
            self.make_room(&mut inside, Some(address))
                .ok_or(Reason::AddressFull)
        } else if inside.members.len() >= self.connections_max {
            self.make_room(&mut inside, None)
                .ok_or(Reason::ConnectionsFull)
        } else {
            Ok(())
        };
        if let Err(reason) = entered {
            self.count(reason);
            return Err(reason);
        }
        let totals = Arc::clone(&self.totals);
        let activity = Activity::new(address, totals, self.waiting_bytes_max);
        let number = inside.next;
        inside.next += 1;
        *inside.per_address.entry(address).or_default() += 1;
        let member = Member {
            activity: Arc::clone(&activity),
            stalled_seconds: 0,
            taken: 0,
        };
        inside.members.insert(number, member);
        drop(inside);
        Ok(Place {
            crowd: Arc::clone(self),
            number,
            activity,
        })
    }

    fn make_room(&self, inside: &mut Inside, address: Option<IpAddr>) -> Option<()> {
        // Sockets that are not closed yet still cost something.
        if inside.leaving >= self.connections_max {
            return None;
        }
        let mut found: Option<(u32, u64)> = None;
        for (number, member) in &inside.members {
            let activity = &member.activity;
            if activity.is_busy() || address.is_some_and(|address| address != activity.address) {
                continue;
            }
            let used = activity.used_second();
            if found.is_none_or(|(least, _)| used < least) {
                found = Some((used, *number));
            }
            // They stand in the order in which they came: nobody further on deserves it more.
            if used == 0 {
                break;
            }
        }
        let (_, number) = found?;
        inside.send_away(number);
        self.count(Reason::MadeRoom);
        Some(())
    }

    /// Lets time go on and sends away who takes nothing; does not return.
    pub(crate) async fn keep_order(self: Arc<Self>) {
        let mut seconds = tokio::time::interval(SECOND);
        loop {
            tokio::select! {
                _ = seconds.tick() => {
                    self.totals.second.fetch_add(1, Ordering::Relaxed);
                    self.end_stalled();
                }
                () = self.totals.is_crowded.notified() => {
                    let before = self.taken();
                    tokio::time::sleep(CROWDED_WAIT).await;
                    self.end_heaviest(&before);
                }
            }
        }
    }

    fn end_stalled(&self) {
        let mut inside = self.inside();
        let mut stalled = Vec::new();
        for (number, member) in &mut inside.members {
            let taken = member.activity.taken();
            if member.activity.waiting_bytes() == 0 || taken != member.taken {
                member.taken = taken;
                member.stalled_seconds = 0;
                continue;
            }
            member.stalled_seconds += 1;
            if SECOND * member.stalled_seconds > self.reader_wait {
                stalled.push(*number);
            }
        }
        for number in stalled {
            inside.send_away(number);
            self.count(Reason::ReaderLate);
        }
    }

    fn taken(&self) -> HashMap<u64, u64> {
        let inside = self.inside();
        let members = inside.members.iter();
        let waiting = members.filter(|(_, member)| member.activity.waiting_bytes() > 0);
        waiting
            .map(|(number, member)| (*number, member.activity.taken()))
            .collect()
    }

    /// Ends connections until less waits than may: those that took nothing since `before`, and
    /// when twice as much waits as may, whoever holds most.
    fn end_heaviest(&self, before: &HashMap<u64, u64>) {
        let mut inside = self.inside();
        let mut total = 0;
        let mut heaviest = Vec::new();
        for (number, member) in &inside.members {
            let bytes = member.activity.waiting_bytes();
            total += bytes;
            let has_taken = before.get(number) != Some(&member.activity.taken());
            if bytes > 0 {
                heaviest.push((has_taken, bytes, *number));
            }
        }
        heaviest.sort_by_key(|(has_taken, bytes, _)| (*has_taken, std::cmp::Reverse(*bytes)));
        for (has_taken, bytes, number) in heaviest {
            let bound = self.waiting_bytes_max * if has_taken { 2 } else { 1 };
            if total <= bound {
                break;
            }
            inside.send_away(number);
            self.count(Reason::WaitingBytes);
            total -= bytes;
        }
    }

    pub(crate) fn count(&self, reason: Reason) {
        self.refusals[reason as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// What was refused and ended, by reason.
    pub(crate) fn refusals(&self) -> Vec<(&'static str, u64)> {
        let counts = Reason::ALL.iter().zip(&self.refusals);
        let named = counts.map(|((_, name), count)| (*name, count.load(Ordering::Relaxed)));
        named.collect()
    }

    /// Connections that hold a place.
    pub(crate) fn len(&self) -> usize {
        self.inside().members.len()
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inside {
    fn send_away(&mut self, number: u64) {
        if let Some(activity) = self.remove(number) {
            activity.send_away();
            self.leaving += 1;
        }
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Activity>> {
        let activity = self.members.remove(&number)?.activity;
        if let Some(count) = self.per_address.get_mut(&activity.address) {
            *count -= 1;
            if *count == 0 {
                self.per_address.remove(&activity.address);
            }
        }
        Some(activity)
    }
}

/// A connection's place, given back when it is dropped.
pub(crate) struct Place {
    crowd: Arc<Crowd>,
    number: u64,
    pub(crate) activity: Arc<Activity>,
}

impl Place {
    /// Counts why it is left.
    pub(crate) fn count(&self, reason: Reason) {
        self.crowd.count(reason);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.crowd.inside();
        if inside.remove(self.number).is_none() {
            inside.leaving -= 1;
        }
    }
}

/// What one attacker can't choose of its address.
fn network_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let kept = u128::MAX << (Ipv6Addr::BITS - NETWORK_BITS);
            Ipv6Addr::from_bits(address.to_bits() & kept).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits;

    fn crowd(connections_max: usize, per_address_max: usize) -> Arc<Crowd> {
        let mut limits = limits::of_tests();
        limits.connections_max = connections_max;
        limits.connections_per_address_max = per_address_max;
        let crowd = Crowd::new(&limits);
        crowd.totals.second.store(1, Ordering::Relaxed);
        crowd
    }

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    fn count(crowd: &Crowd, reason: Reason) -> u64 {
        crowd.refusals()[reason as usize].1
    }

    fn is_gone(place: &Place) -> bool {
        !place.crowd.inside().members.contains_key(&place.number)
    }

    #[test]
    fn each_reason_has_its_own_name() {
        for (place, (reason, _)) in Reason::ALL.iter().enumerate() {
            assert_eq!(place, *reason as usize);
        }
        let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|it| it.1).collect();
        assert_eq!(Reason::ALL.len(), names.len());
    }

    #[test]
    fn the_oldest_without_a_call_makes_room_and_who_calls_stays() {
        let crowd = crowd(3, 3);
        let [first, second, third] =
            [1, 2, 3].map(|last| crowd.enter(address(last)).expect("there is room"));
        drop(first.activity.begin());
        let open = second.activity.begin();

        let fourth = crowd.enter(address(4)).expect("the third makes room");
        assert!(is_gone(&third));
        assert!(!is_gone(&first) && !is_gone(&second));
        let _fourth = fourth.activity.begin();
        crowd.enter(address(5)).expect("the first makes room");
        assert!(is_gone(&first));
        drop(open);
        assert_eq!(2, count(&crowd, Reason::MadeRoom));
    }

    #[test]
    fn a_listener_full_of_open_calls_refuses_who_comes() {
        let crowd = crowd(2, 2);
        let places = [1, 2].map(|last| crowd.enter(address(last)).expect("there is room"));
        let calls = places.each_ref().map(|place| place.activity.begin());

        assert_eq!(Some(Reason::ConnectionsFull), crowd.enter(address(3)).err());
        assert_eq!(1, count(&crowd, Reason::ConnectionsFull));
        drop(calls);
        drop(places);
        assert_eq!(0, crowd.len());
        assert!(crowd.enter(address(3)).is_ok());
    }

    #[test]
    fn an_address_takes_no_more_than_its_places() {
        let crowd = crowd(10, 2);
        let places = [1, 1, 2].map(|last| crowd.enter(address(last)).expect("there is room"));
        let calls = places.each_ref().map(|place| place.activity.begin());

        assert_eq!(Some(Reason::AddressFull), crowd.enter(address(1)).err());
        assert!(crowd.enter(address(2)).is_ok());
        drop(calls);
        assert!(crowd.enter(address(1)).is_ok());
        assert!(is_gone(&places[0]));
        assert!(!is_gone(&places[2]));
    }

    #[test]
    fn who_leaves_slowly_does_not_let_the_listener_grow_without_a_bound() {
        let crowd = crowd(2, 2);
        let kept: Vec<_> = (0..10)
            .map_while(|_| crowd.enter(address(1)).ok())
            .collect();

        // Two places, and as many that are sent away and not gone.
        assert_eq!(4, kept.len());
        drop(kept);
        assert!(crowd.enter(address(1)).is_ok());
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let crowd = crowd(10, 1);
        let enter = |text: &str| crowd.enter(text.parse().expect("is an address"));
        let first = enter("2001:db8::1").expect("there is room");
        let _call = first.activity.begin();

        assert_eq!(Some(Reason::AddressFull), enter("2001:db8::2").err());
        assert!(enter("2001:db8:0:1::1").is_ok());
        let mapped = enter("::ffff:10.0.0.1").expect("there is room");
        assert_eq!(IpAddr::from([10, 0, 0, 1]), mapped.activity.address);
    }

    #[test]
    fn who_takes_nothing_for_too_long_goes_and_who_takes_something_stays() {
        let crowd = crowd(10, 10);
        let [silent, slow] = [1, 2].map(|last| crowd.enter(address(last)).expect("has room"));
        let (first, second) = (silent.activity.begin(), slow.activity.begin());
        let (_kept, _also) = (first.answer(10), second.answer(10));
        for _ in 0..=21 {
            drop(second.answer(1));
            crowd.end_stalled();
        }

        assert!(is_gone(&silent));
        assert!(!is_gone(&slow));
        assert_eq!(1, count(&crowd, Reason::ReaderLate));
    }

    #[test]
    fn when_too_much_waits_who_takes_nothing_goes_first_and_the_heaviest_of_them() {
        let crowd = crowd(10, 10);
        let places = [1, 2, 3].map(|last| crowd.enter(address(last)).expect("there is room"));
        let calls = places.each_ref().map(|place| place.activity.begin());
        // Of 1 MiB: the first takes something, the second waits with more than the third.
        let _waiting = [(0, 900_000), (1, 500_000), (2, 100_000)]
            .map(|(at, bytes): (usize, usize)| calls[at].answer(bytes));
        let before = crowd.taken();
        drop(calls[0].answer(1));
        crowd.end_heaviest(&before);

        let gone = places.each_ref().map(is_gone);
        assert_eq!([false, true, false], gone);
        assert_eq!(1, count(&crowd, Reason::WaitingBytes));
    }
}
