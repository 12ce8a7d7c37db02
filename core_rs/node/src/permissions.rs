//! Who may call what on which sale: one table for every door.
//!
//! Owns: the verdict on a caller, a method and a sale, and which sale a request is about. The sale
//! of a reservation is looked up under the node's lock, together with the decision, so that no
//! change can come between the two. Must not: find out who calls (the front does), or know groups
//! of methods. Where next: `serve.rs` and `batch.rs`, where it is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lastunit_engine::{Action, Command, Ledger};
use lastunit_wire::{Fault, Method, Query, Request};
use serde::Deserialize;

use crate::faults;
use crate::settings::SettingsError;
use crate::shared::Shared;

/// A table is read by people: more rows than this are a mistake.
const RULE_COUNT_MAX: usize = 1_000;

/// Stands for every caller, or every sale.
const EVERY: &str = "*";

/// The table. A caller without a row may do nothing.
#[derive(Debug, Default)]
pub struct Permissions {
    callers: BTreeMap<String, Vec<Arc<Rule>>>,
    /// Rows for whoever is known at all.
    everybody: Vec<Arc<Rule>>,
}

#[derive(Debug)]
struct Rule {
    methods: BTreeSet<String>,
    sales: Vec<String>,
}

/// What a call is about, as far as its sale is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject<'a> {
    /// One sale, by its id.
    Sale(&'a str),
    /// A sale that is not known yet: the reservation of this id knows it.
    Reservation(&'a str),
    /// More than one sale, or none: only rows for every sale count.
    Ledger,
}

/// What the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// For some sales: look which one it is, then ask again.
    AskSale,
    /// No, for lack of this.
    Denied(Lack),
}

/// What a caller lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// No row names it.
    Caller,
    /// No row of its names the method.
    Method,
    /// No row of its with the method names the sale.
    Sale,
}

impl Lack {
    /// The word in a fault's metadata.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::Method => "method",
            Self::Sale => "sale",
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TableText {
    rules: Vec<RuleText>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    callers: Vec<String>,
    methods: BTreeSet<String>,
    sales: Vec<String>,
}

impl Permissions {
    /// Reads a table: `{"rules": [{"callers": […], "methods": […], "sales": […]}]}`. A caller is a
    /// name or `*`, a method a name such as `Reserve`, a sale an id in which `*` stands for any
    /// run of characters.
    ///
    /// # Errors
    /// The text has another form, or more rows than the limit.
    pub fn from_json(text: &str) -> Result<Self, SettingsError> {
        let table: TableText = serde_json::from_str(text)
            .map_err(|error| SettingsError::new("permissions", error.to_string()))?;
        if table.rules.len() > RULE_COUNT_MAX {
            let expected = format!("at most {RULE_COUNT_MAX} rows");
            return Err(SettingsError::new("permissions", expected));
        }
        let mut permissions = Self::default();
        for text in table.rules {
            let rule = Arc::new(Rule {
                methods: text.methods,
                sales: text.sales,
            });
            for caller in text.callers {
                let rules = match caller.as_str() {
                    EVERY => &mut permissions.everybody,
                    _ => permissions.callers.entry(caller).or_default(),
                };
                rules.push(Arc::clone(&rule));
            }
        }
        Ok(permissions)
    }

    /// Says whether a caller may call a method. Pure: the same for every door.
    #[must_use]
    pub fn verdict(&self, caller: &str, method: &str, subject: Subject<'_>) -> Verdict {
        let own = self.callers.get(caller).map_or(&[][..], Vec::as_slice);
        let mut lack = Lack::Caller;
        for rule in own.iter().chain(&self.everybody) {
            if !rule.methods.contains(method) {
                lack = if lack == Lack::Caller {
                    Lack::Method
                } else {
                    lack
                };
            } else if rule.has_sale(subject) {
                return Verdict::Allowed;
            } else {
                lack = Lack::Sale;
            }
        }
        match (lack, subject) {
            (Lack::Sale, Subject::Reservation(_)) => Verdict::AskSale,
            _ => Verdict::Denied(lack),
        }
    }
}

impl Rule {
    fn has_sale(&self, subject: Subject<'_>) -> bool {
        self.sales.iter().any(|pattern| match subject {
            Subject::Sale(sale_id) => matches(pattern, sale_id),
            Subject::Reservation(_) | Subject::Ledger => pattern == EVERY,
        })
    }
}

/// Whether a text fits a pattern in which `*` stands for any run of characters; linear in the
/// text for each star.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    // A split gives at least one part.
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else {
        return false;
    };
    let Some(last) = parts.next_back() else {
        // No star at all.
        return rest.is_empty();
    };
    for part in parts {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The sale that a request is about. What is not listed concerns the whole ledger, so that a new
/// method is closed to callers of single sales until it has a row here.
fn subject_of(request: &Request) -> Subject<'_> {
    match request {
        Request::Command(command) => subject_of_command(command),
        Request::Query(
            Query::GetReservation { reservation_id } | Query::ExplainReservation { reservation_id },
        ) => Subject::Reservation(reservation_id),
        Request::Query(Query::ListReservations { filter, .. }) => Subject::Sale(&filter.sale_id),
        Request::Query(
            Query::GetAvailability { sale_id, .. } | Query::WatchAvailability { sale_id, .. },
        ) => Subject::Sale(sale_id),
        Request::Query(_) | Request::Batch(_) | Request::SetClock { .. } => Subject::Ledger,
    }
}

fn subject_of_command(command: &Command) -> Subject<'_> {
    match &command.action {
        Action::Reserve(it) => Subject::Sale(&it.sale_id),
        Action::PutSale(it) => Subject::Sale(&it.sale_id),
        Action::PutPool(it) => Subject::Sale(&it.sale_id),
        Action::SupplyStock(it) | Action::WithdrawStock(it) => Subject::Sale(&it.sale_id),
        Action::SetSaleState { sale_id, .. }
        | Action::AdjustStock { sale_id, .. }
        | Action::MoveStock { sale_id, .. }
        | Action::PourBuffer { sale_id, .. } => Subject::Sale(sale_id),
        Action::BeginPayment(it) => Subject::Reservation(&it.reservation_id),
        Action::SettlePayment(it) => Subject::Reservation(&it.reservation_id),
        Action::Return(it) => Subject::Reservation(&it.reservation_id),
        Action::Confirm { reservation_id }
        | Action::Release { reservation_id, .. }
        | Action::Extend { reservation_id, .. }
        | Action::RecordRefund { reservation_id, .. }
        | Action::ReleaseUnverified { reservation_id } => Subject::Reservation(reservation_id),
        _ => Subject::Ledger,
    }
}

/// One call's look at the table, the same one from its first check to its last.
pub(crate) struct Access<'a> {
    table: Option<Arc<Permissions>>,
    caller: &'a str,
}

impl<'a> Access<'a> {
    pub(crate) fn of(shared: &Shared, caller: &'a str) -> Self {
        Self {
            table: shared.permissions(),
            caller,
        }
    }

    pub(crate) fn caller(&self) -> &'a str {
        self.caller
    }

    /// Before anything is charged or locked: all that can be said without the ledger.
    pub(crate) fn enter(&self, method: Method, request: &Request) -> Result<(), Fault> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        let subject = subject_of(request);
        match table.verdict(self.caller, method.name(), subject) {
            Verdict::Allowed | Verdict::AskSale => Ok(()),
            Verdict::Denied(lack) => Err(faults::not_permitted(
                self.caller,
                method.name(),
                subject,
                lack,
            )),
        }
    }

    /// Under the lock: a reservation that is there belongs to a sale that the caller may touch.
    /// One that is not there is left to the decision, which says so.
    pub(crate) fn reach(&self, ledger: &Ledger, method: Method, id: &str) -> Result<(), Fault> {
        let Some(table) = &self.table else {
            return Ok(());
        };
        let subject = Subject::Reservation(id);
        if table.verdict(self.caller, method.name(), subject) == Verdict::Allowed {
            return Ok(());
        }
        let Some(found) = ledger.reservation(id) else {
            return Ok(());
        };
        match table.verdict(self.caller, method.name(), Subject::Sale(&found.sale_id)) {
            Verdict::Allowed => Ok(()),
            // The sale is not named: whose it is, is not the caller's business.
            Verdict::AskSale | Verdict::Denied(_) => Err(faults::not_permitted(
                self.caller,
                method.name(),
                subject,
                Lack::Sale,
            )),
        }
    }

    /// As `reach`, for a command of whatever kind.
    pub(crate) fn reach_command(
        &self,
        ledger: &Ledger,
        method: Method,
        command: &Command,
    ) -> Result<(), Fault> {
        match subject_of_command(command) {
            Subject::Reservation(id) => self.reach(ledger, method, id),
            Subject::Sale(_) | Subject::Ledger => Ok(()),
        }
    }

    /// As `reach`, for a question of whatever kind.
    pub(crate) fn reach_query(
        &self,
        ledger: &Ledger,
        method: Method,
        query: &Query,
    ) -> Result<(), Fault> {
        match query {
            Query::GetReservation { reservation_id }
            | Query::ExplainReservation { reservation_id } => {
                self.reach(ledger, method, reservation_id)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
#[path = "permissions_tests.rs"]
mod tests;
