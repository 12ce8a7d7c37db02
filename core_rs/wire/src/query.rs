//! Owns the turning of checked questions into [`Query`], and the form of page tokens.
//!
//! Must not answer anything. Next: `view.rs`.

use lastunit_engine::{ReservationFilter, Text};

use crate::check::Violation;
use crate::command::optional_text;
use crate::decode::{IntoRequest, Query, Request};
use crate::fault::Fault;
use crate::{contract, enums, time};

/// Stands before the number in a page token, so that another form can follow one day.
const TOKEN_FORM: &str = "1.";

/// Makes the token that continues after a place of a listing.
pub(crate) fn page_token(after: u64) -> String {
    format!("{TOKEN_FORM}{after}")
}

fn read_page_token(token: &str) -> Result<u64, Fault> {
    if token.is_empty() {
        return Ok(0);
    }
    let digits = token.strip_prefix(TOKEN_FORM);
    digits
        .and_then(|digits| digits.parse().ok())
        .ok_or_else(|| {
            Fault::invalid(vec![Violation {
                field: "page_token".to_owned(),
                rule: "page_token",
                description: "must be a token that an earlier page gave".to_owned(),
            }])
        })
}

/// A checked size is never negative; the absolute value makes that a fact of the code too.
fn size(checked: i32) -> usize {
    usize::try_from(checked.unsigned_abs()).unwrap_or(usize::MAX)
}

fn texts(list: Vec<String>) -> Vec<Text> {
    list.into_iter().map(Text::from).collect()
}

macro_rules! into_query {
    ($message:ident, $self:ident => $query:expr) => {
        impl IntoRequest for contract::$message {
            fn into_request($self, _caller: &str) -> Result<Request, Fault> {
                Ok(Request::Query($query))
            }
        }
    };
}

into_query!(GetReservationRequest, self => Query::GetReservation {
    reservation_id: self.reservation_id.into(),
});
into_query!(ListReservationsRequest, self => Query::ListReservations {
    filter: ReservationFilter {
        sale_id: self.sale_id.into(),
        person_id: optional_text(self.person_id),
        state: enums::state(self.state),
    },
    after: read_page_token(&self.page_token)?,
    page_size: size(self.page_size),
});
into_query!(GetAvailabilityRequest, self => Query::GetAvailability {
    sale_id: self.sale_id.into(),
    skus: texts(self.skus),
});
into_query!(WatchAvailabilityRequest, self => Query::WatchAvailability {
    sale_id: self.sale_id.into(),
    skus: texts(self.skus),
    after_sequence: self.after_sequence,
});
into_query!(AuditRequest, self => Query::Audit);
into_query!(ExplainReservationRequest, self => Query::ExplainReservation {
    reservation_id: self.reservation_id.into(),
});
into_query!(ReadEventsRequest, self => Query::ReadEvents {
    after_sequence: self.after_sequence,
    follow: self.follow,
    page_size: size(self.page_size),
    reader_id: self.reader_id.into(),
});

impl IntoRequest for contract::SetClockRequest {
    fn into_request(self, _caller: &str) -> Result<Request, Fault> {
        let now = self.now_time.map_or(0, time::instant_millis);
        Ok(Request::SetClock { now })
    }
}
