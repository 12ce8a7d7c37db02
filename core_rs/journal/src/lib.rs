//! The journal of the ledger: checksummed records in preallocated segments, group commit,
//! snapshots, recovery.
//!
//! Owns every file of the ledger and what "durable" means. It must not know what an event means,
//! read a clock or start a thread: times come in as arguments, and the node decides which thread
//! calls what. `FORMAT.md` draws the bytes; `README.md` says how the calls fit together.
//!
//! ```
//! use std::sync::Arc;
//! use lastunit_journal::{FileStorage, Journal, JournalOptions, RecordInput};
//!
//! let directory = tempfile::tempdir()?;
//! let storage = Arc::new(FileStorage::open(directory.path())?);
//! let (journal, recovered) = Journal::open(storage, JournalOptions::default())?;
//! assert_eq!(recovered.last_sequence, 0);
//!
//! let input = RecordInput { first_sequence: 1, event_count: 1, time_ms: 0, body: b"event" };
//! journal.append(input)?;
//! let batch = journal.take_batch().expect("one record waits");
//! assert_eq!(journal.write_and_sync(batch)?, 1);
//! assert_eq!(journal.reader().read_after(0, 10)?[0].body, b"event");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod batch;
mod bytes;
mod directory;
mod error;
mod file_storage;
mod follower;
mod history;
mod journal;
pub mod limits;
mod names;
mod options;
mod owner;
mod planner;
mod position;
mod reader;
mod record;
mod recovered;
mod recovery;
mod salvage;
mod scan;
mod segment;
mod shared;
mod slot;
mod snapshot;
mod snapshot_writer;
mod storage;
mod tail;
#[cfg(feature = "testing")]
pub mod testing;
mod verify;
mod window;
mod writer;

pub use batch::Batch;
pub use error::JournalError;
pub use file_storage::FileStorage;
pub use follower::Follower;
pub use history::OldSegment;
pub use journal::Journal;
pub use options::JournalOptions;
pub use position::Position;
pub use reader::{Reader, Records};
pub use record::{Record, RecordInput};
pub use recovered::{Cut, Recovered, Snapshot, inspect, inspect_as_of};
pub use salvage::{Salvage, repair_copy};
pub use snapshot_writer::SnapshotWriter;
pub use storage::{FileEntry, Storage};
pub use verify::{BodyCheck, Problem, Run, VerifyReport, verify, verify_with};
