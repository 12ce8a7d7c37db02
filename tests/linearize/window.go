package main

import (
	"encoding/json"
	"fmt"
	"math"

	"github.com/anishathalye/porcupine"
)

// Unknown is the return time of a call whose answer never came.
const Unknown = -1

// A Window is a history of one sku of one sale that nobody else touched.
type Window struct {
	Name string `json:"name"`
	// Units that are available in the beginning; nothing else is there.
	Units int `json:"units"`
	// The most units one person may hold and have bought; 0 means no limit.
	UnitsPerPerson int `json:"units_per_person"`
	// The most reservations one person may have that are not paid for; 0 means no limit.
	UnpaidPerPerson int    `json:"unpaid_per_person"`
	Calls           []Call `json:"calls"`
}

// A Call is one operation as its client saw it. Times are nanoseconds of one monotonic clock.
type Call struct {
	Client int   `json:"client"`
	Call   int64 `json:"call"`
	Return int64 `json:"return"`
	// Epoch and Number are the place that the server claims; trusted only when asked to.
	Epoch  int64 `json:"epoch"`
	Number int64 `json:"number"`

	Kind        string `json:"kind"`
	Reservation string `json:"reservation"`
	Person      string `json:"person"`
	Units       int    `json:"units"`
	Request     string `json:"request"`
	Attempt     string `json:"attempt"`
	Succeeded   bool   `json:"succeeded"`

	// Repeated says that calls before this one had no answer, and that this one found their effect
	// there: it came at some time between the first call and this answer.
	Repeated bool `json:"repeated"`

	Outcome      string `json:"outcome"`
	Replayed     bool   `json:"replayed"`
	State        string `json:"state"`
	AttemptState string `json:"attempt_state"`
	Ignored      bool   `json:"ignored"`
	Retaken      bool   `json:"retaken"`
	Available    int    `json:"available"`
	Held         int    `json:"held"`
	Paying       int    `json:"paying"`
	Sold         int    `json:"sold"`
}

func (call *Call) isUnknown() bool { return call.Return == Unknown }

// order is the place that the server claims, comparable over its restarts.
func (call *Call) order() int64 { return call.Epoch<<40 | call.Number }

func (window *Window) unknownCount() int {
	count := 0
	for index := range window.Calls {
		if window.Calls[index].isUnknown() {
			count++
		}
	}
	return count
}

func readWindow(line []byte) (*Window, error) {
	window := &Window{}
	if err := json.Unmarshal(line, window); err != nil {
		return nil, err
	}
	if len(window.Calls) == 0 {
		return nil, fmt.Errorf("window %q has no calls", window.Name)
	}
	if window.Units < 0 || window.Units > math.MaxUint16 {
		return nil, fmt.Errorf("window %q has %d units", window.Name, window.Units)
	}
	return window, nil
}

// history turns a window's calls into what the checker takes. A call without an answer may take
// effect at any time after it was sent.
func (window *Window) history() []porcupine.Operation {
	operations := make([]porcupine.Operation, len(window.Calls))
	for index := range window.Calls {
		call := &window.Calls[index]
		end := call.Return
		if call.isUnknown() {
			end = math.MaxInt64
		}
		operations[index] = porcupine.Operation{
			ClientId: call.Client,
			Input:    call,
			Output:   call,
			Call:     call.Call,
			Return:   end,
		}
	}
	return operations
}
