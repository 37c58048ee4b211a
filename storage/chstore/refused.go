package chstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/ez-api/ez-api/logbuf"
)

// Entries that the server refuses, by a constraint of an operator's say, are found without storing the
// others in many small parts, which ClickHouse would have to merge. An insert is stored whole or not
// at all, and a complaint about a constraint says at which row it is violated. So some entries at a
// time are sent with one behind them that is known to be refused: nothing is stored, and the row of
// the complaint is the first that is refused, or that last one. All that are left go in one insert.
//
// A complaint that names no row is about one of all: then the batch is halved, and its parts are stored.

const (
	// probeRows is how many entries are looked at at once.
	probeRows = 100

	// maxRefused is how many entries of a batch are set aside. Where more are refused, it is the
	// constraint that has to be mended: the batch waits. Each takes two statements, all together some
	// ten seconds, where a queue gives a write a minute.
	maxRefused = 2000

	// maxHalved is the same for refusals that name no row, each of which takes many inserts.
	maxHalved = 100

	// siftWithin is how long refused entries are looked for, where each statement takes long: a queue
	// gives a write a minute.
	siftWithin = 25 * time.Second
)

var (
	violatedAt = regexp.MustCompile(`is violated at row ([0-9]{1,9})\. `)

	errNoLonger = errors.New("what was refused is not any more: the batch is tried again")
)

// rowOf returns which of so many rows, from 0 on, a complaint names.
func rowOf(err error, rows int) (row int, ok bool) {
	var e *serverError
	if !errors.As(err, &e) || e.code != codeConstraint {
		return 0, false
	}
	found := violatedAt.FindStringSubmatch(e.text)
	if found == nil {
		return 0, false
	}
	row, err = strconv.Atoi(found[1])
	return row - 1, err == nil && row >= 1 && row <= rows
}

// sift stores entries of which the server has refused some, but for those, which it buries.
func (w *writer) sift(ctx context.Context, entries []*logbuf.Entry, token string, why error) error {
	for {
		row, ok := rowOf(why, len(entries))
		if !ok {
			return w.halve(ctx, entries, token, why)
		}
		known, good, rest := entries[row], slices.Clone(entries[:row]), entries[row+1:]
		refused, err := w.refuse(ctx, known)
		if err != nil {
			return err
		}
		if !refused && len(entries) == 1 {
			return nil
		}
		if !refused { // it was stored: the server counts rows in another way
			return w.halve(ctx, entries, token, why)
		}
		for len(rest) > 0 {
			some := rest[:min(len(rest), probeRows)]
			err := w.send(ctx, append(slices.Clip(some), known), "")
			if err == nil {
				return errNoLonger
			}
			if faultOf(err) != faultData {
				return err
			}
			row, ok := rowOf(err, len(some)+1)
			if !ok {
				return w.halve(ctx, append(good, rest...), "", err)
			}
			good, rest = append(good, some[:row]...), rest[row:]
			if row == len(some) {
				continue
			}
			if refused, err = w.refuse(ctx, rest[0]); err != nil {
				return err
			}
			if !refused {
				good = append(good, rest[0])
			}
			rest = rest[1:]
		}
		if len(good) == 0 {
			return nil
		}
		// Another constraint may refuse some of these. They are not what the batch's token names.
		if why = w.send(ctx, good, ""); faultOf(why) != faultData {
			return why
		}
		entries, token = good, ""
	}
}

// refuse sends an entry alone, and buries it where it is refused so, too.
func (w *writer) refuse(ctx context.Context, e *logbuf.Entry) (refused bool, err error) {
	err = w.send(ctx, []*logbuf.Entry{e}, "")
	if faultOf(err) != faultData {
		return false, err
	}
	return true, w.buryRefused(e, err, &w.refused, maxRefused)
}

// buryRefused buries an entry that the server has refused, and counts it, unless there are too many.
func (w *writer) buryRefused(e *logbuf.Entry, why error, count *int, most int) error {
	if w.sifting.IsZero() {
		w.sifting = time.Now()
	}
	if *count++; *count > most || time.Since(w.sifting) > siftWithin {
		return fmt.Errorf("%d entries of one batch, or more, are refused, which is too many to set them aside; "+
			"change or drop what refuses them: %w", *count, why)
	}
	return w.bury(e, why)
}

// halve stores entries in halves, and halves of those, until the ones that are refused are alone.
func (w *writer) halve(ctx context.Context, entries []*logbuf.Entry, token string, why error) error {
	if len(entries) == 1 {
		return w.buryRefused(entries[0], why, &w.halved, maxHalved)
	}
	half := len(entries) / 2
	for i, part := range [][]*logbuf.Entry{entries[:half], entries[half:]} {
		name := token
		if name != "" {
			name += "/" + strconv.Itoa(i)
		}
		err := w.send(ctx, part, name)
		if faultOf(err) == faultData {
			err = w.halve(ctx, part, name, err)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
