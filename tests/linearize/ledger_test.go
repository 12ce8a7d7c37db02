package main

import (
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
)

// window makes a history in which each call follows the one before it.
func window(units int, calls ...Call) *Window {
	for index := range calls {
		calls[index].Call = int64(10 * index)
		calls[index].Return = int64(10*index + 5)
	}
	return &Window{Name: "test", Units: units, UnitsPerPerson: 3, UnpaidPerPerson: 2, Calls: calls}
}

func reserve(id, person, outcome, state string) Call {
	return Call{
		Kind: "reserve", Reservation: id, Person: person, Units: 1, Outcome: outcome, State: state,
	}
}

func verdict(one *Window) porcupine.CheckResult {
	return checkWindow(one, false, time.Minute)
}

func TestTheLastUnitIsSoldOnce(t *testing.T) {
	right := window(1, reserve("a", "p", "OK", "HELD"), reserve("b", "q", "SOLD_OUT", ""))
	wrong := window(1, reserve("a", "p", "OK", "HELD"), reserve("b", "q", "OK", "HELD"))

	if verdict(right) != porcupine.Ok || verdict(wrong) != porcupine.Illegal {
		t.Fatal("two buyers of one unit: one has it, the other is refused")
	}
}

func TestAnAnswerMayComeFromAnyMomentOfItsCall(t *testing.T) {
	late := window(1, reserve("a", "p", "SOLD_OUT", ""), reserve("b", "q", "OK", "HELD"))
	if verdict(late) != porcupine.Illegal {
		t.Fatal("the first call ended before the unit was taken")
	}
	late.Calls[0].Return = 100
	if verdict(late) != porcupine.Ok {
		t.Fatal("the first call was still under way when the unit was taken")
	}
}

func TestACallWithoutAnAnswerMayHaveTakenEffectOrNot(t *testing.T) {
	for _, outcome := range []string{"OK", "SOLD_OUT"} {
		state := map[string]string{"OK": "HELD", "SOLD_OUT": ""}[outcome]
		one := window(1, reserve("a", "p", "", ""), reserve("b", "q", outcome, state))
		one.Calls[0].Return = Unknown

		if verdict(one) != porcupine.Ok {
			t.Fatalf("after a lost Reserve, %s is possible", outcome)
		}
	}
}

func TestLateMoneyTakesAFreeUnitOrIsOwed(t *testing.T) {
	paid := func(state, attempt string, isRetaken bool) []Call {
		return []Call{
			reserve("a", "p", "OK", "HELD"),
			{Kind: "release", Reservation: "a", Request: "r1", Outcome: "OK", State: "RELEASED"},
			reserve("b", "q", "OK", "HELD"),
			{
				Kind: "settle", Reservation: "a", Attempt: "a:1", Request: "r2", Succeeded: true,
				Outcome: "OK", State: state, AttemptState: attempt, Retaken: isRetaken,
			},
		}
	}
	for units, calls := range map[int][]Call{
		1: paid("REFUND_DUE", "REFUND_DUE", false), 2: paid("CONFIRMED", "APPLIED", true),
	} {
		if verdict(window(units, calls...)) != porcupine.Ok {
			t.Fatalf("late money with %d units", units)
		}
		if verdict(window(3-units, calls...)) != porcupine.Illegal {
			t.Fatalf("late money with %d units was answered as with %d", 3-units, units)
		}
	}
}

func TestNumbersAreTheOrderOnlyWhenTheyAreLookedAt(t *testing.T) {
	one := window(2, reserve("a", "p", "OK", "HELD"), reserve("b", "q", "OK", "HELD"))
	one.Calls[0].Number, one.Calls[1].Number = 2, 1

	if verdict(one) != porcupine.Ok {
		t.Fatal("numbers are not looked at")
	}
	if checkWindow(one, true, time.Minute) != porcupine.Illegal {
		t.Fatal("numbers go back in real time")
	}
}
