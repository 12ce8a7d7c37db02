package main

import (
	"fmt"
	"slices"
)

// explain walks a window in the order that the server claims and tells the first answer that the
// specification does not give there. It is a help for people, never a verdict: calls without an
// answer are left out, so a window that lost some may be right although it says otherwise.
func explain(window *Window) string {
	rules := newLedger(window, false)
	calls := slices.Clone(window.Calls)
	calls = slices.DeleteFunc(calls, func(call Call) bool { return call.isUnknown() || call.Repeated })
	slices.SortFunc(calls, func(left, right Call) int { return int(left.order() - right.order()) })
	state := rules.start()
	for index := range calls {
		call := &calls[index]
		on := board{rules, []byte(state)}
		expected := on.answer(call)
		if expected != said(call) {
			return fmt.Sprintf(
				"%s: operation %d of epoch %d, %s %s%s of client %d: expected %+v, answered %+v",
				window.Name, call.Number, call.Epoch, call.Kind, call.Reservation, call.Request,
				call.Client, expected, said(call),
			)
		}
		state = string(on.bytes)
	}
	return window.Name + ": the claimed order explains every answer but calls without one"
}
