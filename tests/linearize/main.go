// Command linearize checks recorded windows of a lastunit server with porcupine.
//
// It reads one JSON object a line from its input, each a window as the type Window lists, and says
// for each whether some order of its calls that agrees with real time explains every answer. By
// default the server's own numbers are not looked at; with -numbered they have to be that order.
//
// It writes one JSON object: how many windows and calls were checked, which windows are wrong, and
// which could not be decided in time. The exit status is 0 when all are right, 1 when some are
// wrong, 2 when the input cannot be read or some are undecided.
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// One line holds one window; this bounds it.
const lineBytesMax = 256 << 20

// So many wrong windows are explained in words.
const explainedMax = 5

type report struct {
	Windows   int      `json:"windows"`
	Calls     int      `json:"calls"`
	Unknown   int      `json:"unknown"`
	Wrong     []string `json:"wrong"`
	Undecided []string `json:"undecided"`
	Explained []string `json:"explained"`
	Seconds   float64  `json:"seconds"`
	Checker   string   `json:"checker"`
}

func main() {
	isNumbered := flag.Bool("numbered", false, "trust the server's numbers to be the order")
	seconds := flag.Float64("timeout", 60, "seconds that one window may take")
	flag.Parse()
	result, err := check(os.Stdin, *isNumbered, time.Duration(*seconds*float64(time.Second)))
	if err != nil {
		fmt.Fprintln(os.Stderr, "linearize:", err)
		os.Exit(2)
	}
	if err := json.NewEncoder(os.Stdout).Encode(result); err != nil {
		fmt.Fprintln(os.Stderr, "linearize:", err)
		os.Exit(2)
	}
	switch {
	case len(result.Wrong) > 0:
		os.Exit(1)
	case len(result.Undecided) > 0:
		os.Exit(2)
	}
}

func check(input io.Reader, isNumbered bool, timeout time.Duration) (*report, error) {
	started := time.Now()
	result := &report{Wrong: []string{}, Undecided: []string{}, Explained: []string{}, Checker: "porcupine v1.3.1"}
	var guard sync.Mutex
	var running sync.WaitGroup
	slots := make(chan struct{}, runtime.NumCPU())
	lines := bufio.NewScanner(input)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		window, err := readWindow(lines.Bytes())
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", result.Windows+1, err)
		}
		result.Windows++
		result.Calls += len(window.Calls)
		result.Unknown += window.unknownCount()
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			verdict := checkWindow(window, isNumbered, timeout)
			guard.Lock()
			defer guard.Unlock()
			switch verdict {
			case porcupine.Illegal:
				result.Wrong = append(result.Wrong, window.Name)
				if len(result.Explained) < explainedMax {
					result.Explained = append(result.Explained, explain(window))
				}
			case porcupine.Unknown:
				result.Undecided = append(result.Undecided, window.Name)
			}
		})
	}
	running.Wait()
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if result.Windows == 0 {
		return nil, fmt.Errorf("the input has no window")
	}
	result.Seconds = time.Since(started).Seconds()
	return result, nil
}

func checkWindow(window *Window, isNumbered bool, timeout time.Duration) porcupine.CheckResult {
	rules := newLedger(window, isNumbered)
	return porcupine.CheckOperationsTimeout(rules.model(), window.history(), timeout)
}
