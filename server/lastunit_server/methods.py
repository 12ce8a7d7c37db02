"""Which method is served where.

Owns the table of listeners: one row per method of the contract; a test holds it against the
descriptors, so a new method without a row fails. Must not import stubs or grpc: the command line
and the policy check read it too.

Reservations and reads arrive on the data listener, settlement, operators and control on the
settlement listener. A queue in the transport forms before any code of ours runs, so only a listener
of its own keeps settlement out of it.
"""

from enum import Enum

__all__ = [
    "ADMIN",
    "ADMISSION",
    "COST_METHODS",
    "GROUPS",
    "INTROSPECTION",
    "JOURNAL",
    "REHEARSAL",
    "STOCK",
    "Listener",
    "expanded",
    "path",
    "unary_methods",
]

STOCK = "lastunit.stock.v1.StockService"
ADMIN = "lastunit.stock.v1.StockAdminService"
JOURNAL = "lastunit.stock.v1.JournalService"
REHEARSAL = "lastunit.stock.v1.RehearsalService"
ADMISSION = "lastunit.admission.v1.AdmissionService"


class Listener(Enum):
    """The two doors; the value is the word that the node counts calls under."""

    DATA = "data"
    SETTLEMENT = "settlement"


# Payment facts, and the one read that settling needs: on both listeners.
_SETTLING = (
    "BeginPayment",
    "SettlePayment",
    "Confirm",
    "Release",
    "Extend",
    "Return",
    "RecordRefund",
    "GetReservation",
)
# What a flood consists of: on the data listener only.
_RESERVING = ("Reserve", "ListReservations", "GetAvailability")
_ADMIN_METHODS = (
    "PutSale",
    "SetSaleState",
    "PutPool",
    "SupplyStock",
    "WithdrawStock",
    "AdjustStock",
    "MoveStock",
    "PourBuffer",
    "ReleaseUnverified",
    "MergePersons",
    "SplitPersons",
    "SetExpiryBrake",
    "Audit",
    "ExplainReservation",
)
_REHEARSAL_METHODS = ("SetClock",)
_ADMISSION_METHODS = (
    "GetPolicy",
    "GetAdmissionStats",
    "ListRevisions",
    "GetGate",
    "ListGates",
    "GetAdvice",
)
_POLICY_METHODS = ("PutPolicy", "RollBack", "SetShadowPolicy")
_PRESSURE_METHODS = ("ReportPressure",)
_GATE_METHODS = ("SetGate",)

# Tools that show how the server is made and used; health is nobody's secret and not among them.
INTROSPECTION = ("ServerReflectionInfo", "Channelz")

# What a permission may name at once. Exchange is no right of its own: it carries operations, and
# each of them is judged by itself.
GROUPS: dict[str, frozenset[str]] = {
    "reserve": frozenset(("Reserve",)),
    "settle": frozenset(_SETTLING) - {"GetReservation"},
    "read": frozenset(
        ("GetReservation", "ListReservations", "GetAvailability", "WatchAvailability")
    ),
    "admin": frozenset(_ADMIN_METHODS),
    "journal": frozenset(("ReadEvents",)),
    "rehearsal": frozenset(_REHEARSAL_METHODS),
    "admission": frozenset(_ADMISSION_METHODS) | {"WatchGate"},
    "policy": frozenset(_POLICY_METHODS),
    "pressure": frozenset(_PRESSURE_METHODS),
    "gate": frozenset(_GATE_METHODS),
    "introspection": frozenset(INTROSPECTION),
}
_GROUPED = frozenset().union(*GROUPS.values())
# What an Exchange can hold; who may call none of it may not open one.
_IN_EXCHANGE = (*_SETTLING, "Reserve", "GetAvailability")

# The names that a policy may price: what a batch may hold, lists and watches, and all of
# StockAdminService under one name.
COST_METHODS = frozenset((*_SETTLING, *_RESERVING, "WatchAvailability", "Admin"))


def path(service: str, method: str) -> str:
    """Returns the gRPC path of a method, for example `/lastunit.stock.v1.StockService/Reserve`."""
    return f"/{service}/{method}"


def expanded(name: str) -> frozenset[str]:
    """Returns the methods that a permission opens by a name.

    Args:
        name: A group such as `settle`, or a method such as `Confirm`.

    Returns:
        Names of methods, `Exchange` with those that it can carry; empty if nothing has that name.
    """
    methods = GROUPS.get(name, frozenset((name,)) & _GROUPED)
    return methods | {"Exchange"} if methods.intersection(_IN_EXCHANGE) else methods


def unary_methods(
    listener: Listener, *, is_rehearsal: bool
) -> tuple[frozenset[str], frozenset[str]]:
    """Tells which unary calls a listener serves and which belong to the other one.

    Args:
        listener: The door.
        is_rehearsal: Whether the node's clock is manual, so that RehearsalService is served.

    Returns:
        Paths that are served here, and paths that are refused as WRONG_LISTENER.
    """
    settling = {path(STOCK, name) for name in _SETTLING}
    reserving = {path(STOCK, name) for name in _RESERVING}
    control = {path(ADMIN, name) for name in _ADMIN_METHODS}
    admission = (*_ADMISSION_METHODS, *_POLICY_METHODS, *_PRESSURE_METHODS, *_GATE_METHODS)
    control |= {path(ADMISSION, name) for name in admission}
    if is_rehearsal:
        control |= {path(REHEARSAL, name) for name in _REHEARSAL_METHODS}
    if listener is Listener.DATA:
        return frozenset(settling | reserving), frozenset(control)
    return frozenset(settling | control), frozenset(reserving)
