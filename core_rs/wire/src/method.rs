//! Owns the methods of the contract that a node serves: their names, paths and lanes.
//!
//! Must not know what a method does. A test compares the list with the contract. Next: `decode.rs`.

/// The order in which admission serves, as the contract tells callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What operators do; first.
    Control,
    /// What the provider or the buyer says of a reservation that exists; second.
    Settlement,
    /// New reservations; third.
    Reservation,
    /// Questions; last.
    Read,
}

impl Lane {
    /// The name in settings, metrics and the comments of the contract.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Control => "control",
            Self::Settlement => "settlement",
            Self::Reservation => "reservation",
            Self::Read => "read",
        }
    }
}

macro_rules! methods {
    ($($service:literal { $($method:ident: $lane:expr, $is_streaming:literal;)+ })+) => {
        /// One method of the contract.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Method {
            $($(
                #[doc = concat!("`", $service, "/", stringify!($method), "`.")]
                $method,
            )+)+
        }

        impl Method {
            /// Every method, in the order of the contract.
            pub const ALL: &'static [Self] = &[$($(Self::$method,)+)+];

            /// The path of a gRPC call, with the leading slash.
            #[must_use]
            pub const fn path(self) -> &'static str {
                match self {
                    $($(
                        Self::$method => {
                            concat!("/lastunit.stock.v1.", $service, "/", stringify!($method))
                        }
                    )+)+
                }
            }

            /// The method's own name, such as `Reserve`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$method => stringify!($method),)+)+ }
            }

            /// The lane that serves it; none for Exchange, whose operations have one each.
            #[must_use]
            pub const fn lane(self) -> Option<Lane> {
                match self { $($(Self::$method => $lane,)+)+ }
            }

            /// Whether either side of the call is a stream.
            #[must_use]
            pub const fn is_streaming(self) -> bool {
                match self { $($(Self::$method => $is_streaming,)+)+ }
            }

            /// Finds a method by its path; the leading slash may be missing.
            #[must_use]
            pub fn from_path(path: &str) -> Option<Self> {
                match path.strip_prefix('/').unwrap_or(path) {
                    $($(
                        concat!("lastunit.stock.v1.", $service, "/", stringify!($method)) => {
                            Some(Self::$method)
                        }
                    )+)+
                    _ => None,
                }
            }
        }
    };
}

const CONTROL: Option<Lane> = Some(Lane::Control);
const SETTLEMENT: Option<Lane> = Some(Lane::Settlement);
const RESERVATION: Option<Lane> = Some(Lane::Reservation);
const READ: Option<Lane> = Some(Lane::Read);

methods! {
    "StockService" {
        Reserve: RESERVATION, false;
        BeginPayment: SETTLEMENT, false;
        SettlePayment: SETTLEMENT, false;
        Confirm: SETTLEMENT, false;
        Release: SETTLEMENT, false;
        Extend: SETTLEMENT, false;
        Return: SETTLEMENT, false;
        RecordRefund: SETTLEMENT, false;
        GetReservation: READ, false;
        ListReservations: READ, false;
        GetAvailability: READ, false;
        WatchAvailability: READ, true;
        Exchange: None, true;
    }
    "StockAdminService" {
        PutSale: CONTROL, false;
        SetSaleState: CONTROL, false;
        PutPool: CONTROL, false;
        SupplyStock: CONTROL, false;
        WithdrawStock: CONTROL, false;
        AdjustStock: CONTROL, false;
        MoveStock: CONTROL, false;
        PourBuffer: CONTROL, false;
        ReleaseUnverified: CONTROL, false;
        MergePersons: CONTROL, false;
        SplitPersons: CONTROL, false;
        SetExpiryBrake: CONTROL, false;
        Audit: CONTROL, false;
        ExplainReservation: CONTROL, false;
    }
    "JournalService" {
        ReadEvents: READ, true;
    }
    "RehearsalService" {
        SetClock: CONTROL, false;
    }
}

impl Method {
    /// Whether the method may change the ledger.
    #[must_use]
    pub const fn is_mutating(self) -> bool {
        !matches!(
            self,
            Self::GetReservation
                | Self::ListReservations
                | Self::GetAvailability
                | Self::WatchAvailability
                | Self::Audit
                | Self::ExplainReservation
                | Self::ReadEvents
        )
    }
}
