package main

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/anishathalye/porcupine"
)

// The states of a reservation that a window can reach: no clock ends anything in it.
const (
	none byte = iota
	held
	paying
	confirmed
	released
	refundDue
)

var stateNames = [...]string{"", "HELD", "PAYING", "CONFIRMED", "RELEASED", "REFUND_DUE"}

// The states of an attempt to pay.
const (
	noAttempt byte = iota
	open
	failed
	applied
	owed
)

// Set on an attempt that the ledger learnt of by its success: it was never begun, so beginning it is
// no repeat.
const unregistered byte = 0x80

var attemptNames = [...]string{"", "OPEN", "FAILED", "APPLIED", "REFUND_DUE"}

const (
	attemptsMax = 4
	// Where the parts of a state are: the last order (numbered checks only), what is available,
	// then a row for each reservation, then a bit for each request that was carried out.
	orderAt     = 0
	availableAt = 8
	rowsAt      = 10
	// A row: state, content, whether a release was asked for, the attempts in their order.
	stateAt   = 0
	contentAt = 1
	askedAt   = 2
	attemptAt = 3
	rowSize   = attemptAt + attemptsMax
)

type content struct {
	person string
	units  int
}

// A ledger is the sequential specification of one window: the rules of design.md for one sku, one
// pool and no buffer. A state is a string, so that states compare with ==.
type ledger struct {
	window       *Window
	isNumbered   bool
	reservations map[string]int
	contents     []content
	contentOf    map[content]int
	requests     map[string]int
	attempts     map[string]int
	seed         maphash.Seed
}

func newLedger(window *Window, isNumbered bool) *ledger {
	rules := &ledger{
		window:       window,
		isNumbered:   isNumbered,
		reservations: map[string]int{},
		contentOf:    map[content]int{},
		requests:     map[string]int{},
		attempts:     map[string]int{},
		seed:         maphash.MakeSeed(),
	}
	attemptCount := map[string]int{}
	for index := range window.Calls {
		call := &window.Calls[index]
		intern(rules.reservations, call.Reservation)
		intern(rules.requests, call.Request)
		if call.Kind == "reserve" {
			made := content{call.Person, call.Units}
			if _, known := rules.contentOf[made]; !known {
				rules.contentOf[made] = len(rules.contents)
				rules.contents = append(rules.contents, made)
			}
		}
		if _, known := rules.attempts[call.Attempt]; call.Attempt != "" && !known {
			rules.attempts[call.Attempt] = attemptCount[call.Reservation]
			attemptCount[call.Reservation]++
		}
	}
	return rules
}

func intern(known map[string]int, name string) {
	if _, found := known[name]; !found && name != "" {
		known[name] = len(known)
	}
}

// A board is a state that is being changed.
type board struct {
	rules *ledger
	bytes []byte
}

func (on board) available() int {
	return int(binary.LittleEndian.Uint16(on.bytes[availableAt:]))
}

func (on board) give(units int) {
	binary.LittleEndian.PutUint16(on.bytes[availableAt:], uint16(on.available()+units))
}

func (on board) row(index int) []byte {
	start := rowsAt + index*rowSize
	return on.bytes[start : start+rowSize]
}

func (on board) unitsOf(row []byte) int { return on.rules.contents[row[contentAt]].units }

func (on board) requestBit(request string) (*byte, byte) {
	index := on.rules.requests[request]
	start := rowsAt + len(on.rules.reservations)*rowSize
	return &on.bytes[start+index/8], 1 << (index % 8)
}

func (on board) isDone(request string) bool {
	place, bit := on.requestBit(request)
	return *place&bit != 0
}

func (on board) note(request string) {
	place, bit := on.requestBit(request)
	*place |= bit
}

func (rules *ledger) start() string {
	size := rowsAt + len(rules.reservations)*rowSize + (len(rules.requests)+7)/8
	on := board{rules, make([]byte, size)}
	on.give(rules.window.Units)
	return string(on.bytes)
}

func (rules *ledger) model() porcupine.Model {
	return porcupine.Model{
		Init: func() any { return rules.start() },
		Step: func(state, input, output any) (bool, any) {
			return rules.step(state.(string), input.(*Call))
		},
		Hash: func(state any) uint64 { return maphash.String(rules.seed, state.(string)) },
	}
}

// step says whether the ledger can answer a call as it was answered, and where that leads.
func (rules *ledger) step(state string, call *Call) (bool, any) {
	on := board{rules, []byte(state)}
	if rules.isNumbered && !call.isUnknown() && !call.Repeated {
		last := binary.LittleEndian.Uint64(on.bytes[orderAt:])
		if uint64(call.order()) <= last {
			return false, state
		}
		binary.LittleEndian.PutUint64(on.bytes[orderAt:], uint64(call.order()))
	}
	expected := on.answer(call)
	if !call.isUnknown() && !call.agrees(expected) {
		return false, state
	}
	return true, string(on.bytes)
}

// A reply is what an answer says, all of it comparable.
type reply struct {
	outcome, state, attemptState  string
	replayed, ignored, retaken    bool
	available, held, paying, sold int
}

// agrees says whether the client got the expected answer. What it got may be the repeat of an answer
// that was lost: then only that it was carried out is known.
func (call *Call) agrees(expected reply) bool {
	if call.Repeated {
		return expected.outcome == call.Outcome
	}
	return expected == said(call)
}

// said is the answer that the client got. A repeated answer tells the first time's particulars,
// which this specification does not keep.
func said(call *Call) reply {
	if call.Replayed {
		return reply{outcome: call.Outcome, replayed: true}
	}
	return reply{
		outcome: call.Outcome, state: call.State, attemptState: call.AttemptState,
		ignored: call.Ignored, retaken: call.Retaken,
		available: call.Available, held: call.Held, paying: call.Paying, sold: call.Sold,
	}
}

var repeated = reply{outcome: "OK", replayed: true}

func refused(outcome string, row []byte) reply {
	return reply{outcome: outcome, state: stateNames[row[stateAt]]}
}

func done(row []byte) reply { return refused("OK", row) }

// answer carries a call out.
func (on board) answer(call *Call) reply {
	if call.Kind == "availability" {
		return on.counters()
	}
	row := on.row(on.rules.reservations[call.Reservation])
	if call.Kind == "reserve" {
		return on.reserve(row, content{call.Person, call.Units})
	}
	if call.Request != "" && on.isDone(call.Request) {
		return repeated
	}
	if row[stateAt] == none {
		return reply{outcome: "UNKNOWN_RESERVATION"}
	}
	switch call.Kind {
	case "show":
		return done(row)
	case "begin":
		return on.begin(row, on.rules.attempts[call.Attempt])
	case "confirm":
		return on.confirm(row, call.Request)
	case "release":
		return on.release(row, call.Request)
	case "settle":
		return on.settle(row, on.rules.attempts[call.Attempt], call)
	}
	return reply{outcome: "no such kind: " + call.Kind}
}

func (on board) counters() reply {
	sum := reply{outcome: "OK", available: on.available()}
	for index := range len(on.rules.reservations) {
		row := on.row(index)
		switch row[stateAt] {
		case held:
			sum.held += on.unitsOf(row)
		case paying:
			sum.paying += on.unitsOf(row)
		case confirmed:
			sum.sold += on.unitsOf(row)
		}
	}
	return sum
}

// reserve is rows 1, 2, 26 and 27: the id first, then the person's limits, then the stock.
func (on board) reserve(row []byte, made content) reply {
	wanted := byte(on.rules.contentOf[made])
	if row[stateAt] != none {
		if row[contentAt] == wanted {
			return repeated
		}
		return refused("CONFLICT", row)
	}
	units, unpaid := on.usage(made.person)
	window := on.rules.window
	if window.UnitsPerPerson > 0 && units+made.units > window.UnitsPerPerson {
		return reply{outcome: "LIMIT_REACHED"}
	}
	if window.UnpaidPerPerson > 0 && unpaid >= window.UnpaidPerPerson {
		return reply{outcome: "LIMIT_REACHED"}
	}
	if on.available() < made.units {
		return reply{outcome: "SOLD_OUT"}
	}
	on.give(-made.units)
	row[stateAt], row[contentAt] = held, wanted
	return done(row)
}

// usage counts a person's units and reservations that are not paid for.
func (on board) usage(person string) (units, unpaid int) {
	for index := range len(on.rules.reservations) {
		row := on.row(index)
		if row[stateAt] == none || on.rules.contents[row[contentAt]].person != person {
			continue
		}
		switch row[stateAt] {
		case held, paying:
			unpaid++
			units += on.unitsOf(row)
		case confirmed:
			units += on.unitsOf(row)
		}
	}
	return units, unpaid
}

// begin is rows 3 and 8, and 28 for the rest: nothing here is released by the clock.
func (on board) begin(row []byte, attempt int) reply {
	known := row[attemptAt+attempt]
	if known != noAttempt && known&unregistered == 0 {
		return repeated
	}
	switch {
	case row[stateAt] != held && row[stateAt] != paying:
		return refused("WRONG_STATE", row)
	case row[askedAt] != 0:
		return refused("NOT_ALLOWED", row)
	}
	row[attemptAt+attempt] = open
	row[stateAt] = paying
	return done(row)
}

// confirm is row 4.
func (on board) confirm(row []byte, request string) reply {
	if row[stateAt] != held {
		return refused("WRONG_STATE", row)
	}
	row[stateAt] = confirmed
	on.note(request)
	return done(row)
}

// release is rows 5 and 14.
func (on board) release(row []byte, request string) reply {
	switch row[stateAt] {
	case held:
		row[stateAt] = released
		on.give(on.unitsOf(row))
	case paying:
		row[askedAt] = 1
	default:
		return refused("WRONG_STATE", row)
	}
	on.note(request)
	return done(row)
}

// settle is rows 9 to 12, 16 to 18 and 21.
func (on board) settle(row []byte, attempt int, call *Call) reply {
	place := &row[attemptAt+attempt]
	if *place == noAttempt && !call.Succeeded {
		return refused("UNKNOWN_ATTEMPT", row)
	}
	flag := *place & unregistered
	if *place == noAttempt {
		flag = unregistered
	}
	known := *place &^ unregistered
	on.note(call.Request)
	answer := reply{outcome: "OK"}
	switch {
	case known == applied || known == owed || known == failed && !call.Succeeded:
		answer.ignored = true
	case call.Succeeded:
		known, answer.retaken = on.succeed(row)
	default:
		known = failed
	}
	*place = known | flag
	if !call.Succeeded && !answer.ignored {
		on.fail(row)
	}
	answer.state, answer.attemptState = stateNames[row[stateAt]], attemptNames[known]
	return answer
}

func (on board) succeed(row []byte) (attempt byte, isRetaken bool) {
	switch row[stateAt] {
	case held, paying:
		row[stateAt] = confirmed
		return applied, false
	case released:
		units := on.unitsOf(row)
		if on.available() >= units {
			on.give(-units)
			row[stateAt] = confirmed
			return applied, true
		}
		row[stateAt] = refundDue
	}
	return owed, false
}

func (on board) fail(row []byte) {
	if row[stateAt] != paying {
		return
	}
	for _, attempt := range row[attemptAt:] {
		if attempt == open {
			return
		}
	}
	if row[askedAt] == 0 {
		row[stateAt] = held
		return
	}
	row[stateAt] = released
	on.give(on.unitsOf(row))
}
