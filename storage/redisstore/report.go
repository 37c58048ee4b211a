package redisstore

import (
	"context"
	"slices"
	"strconv"

	"github.com/ez-api/ez-api/snapshot"
)

const (
	// maxLot and maxLotBytes bound the reports that one run of the script records, which keeps Redis for 0.9 to
	// 1.3 ms. It forgets as many surplus ones as it adds, because CLEAN_UP of nodes_lib.lua is more.
	maxLot      = 100
	maxLotBytes = 256 << 10
)

var _ snapshot.BatchReporter = (*Publisher)(nil)

// report is one as it is sent, and where it stands among those that are to be recorded.
type report struct {
	snapshot.Node
	text []byte
	at   int
}

// Report implements [snapshot.Reporter]. It takes one round trip.
func (p *Publisher) Report(ctx context.Context, n snapshot.Node) (snapshot.Answer, error) {
	errs := make([]error, 1)
	lot := readable([]snapshot.Node{n}, errs)
	if len(lot) == 0 {
		return snapshot.Answer{}, errs[0]
	}
	return p.record(ctx, lot, errs), errs[0]
}

// ReportAll implements [snapshot.BatchReporter]. Each 100 reports take one round trip.
func (p *Publisher) ReportAll(ctx context.Context, nodes []snapshot.Node) []error {
	errs := make([]error, len(nodes))
	for reports := readable(nodes, errs); len(reports) > 0; {
		n, bytes := 0, 0
		for n < min(len(reports), maxLot) && (n == 0 || bytes+len(reports[n].text) <= maxLotBytes) {
			bytes += len(reports[n].text)
			n++
		}
		p.record(ctx, reports[:n], errs)
		reports = reports[n:]
	}
	return errs
}

// readable returns the reports that others can read. It sets the errors of the others.
func readable(nodes []snapshot.Node, errs []error) (reports []report) {
	for i, n := range nodes {
		text := n.Encode()
		if _, err := snapshot.ParseNode(text); err != nil {
			errs[i] = wrap("report", err)
			continue
		}
		reports = append(reports, report{Node: n, text: text, at: i})
	}
	return reports
}

// record records a lot of reports with one run of the script, and sets the errors of those that it could not.
func (p *Publisher) record(ctx context.Context, lot []report, errs []error) snapshot.Answer {
	args := []any{
		p.key(keyHead), p.key(keyBeat), int(snapshot.Liveness.Seconds()), int(snapshot.Remembered.Seconds()),
		p.maxNodes, maxBeat,
	}
	for _, r := range lot {
		args = append(args, r.ID, r.text, max(r.Age, 0).Microseconds(), flag(r.Leaving))
	}
	var answer snapshot.Answer
	text, err := p.ask(ctx, reportScript, p.keys(keyNodes, keySeen, keyCrowded, keyLeft), args)
	if err == nil {
		answer, err = readAnswer(text, lot, errs)
	}
	if err != nil {
		for _, r := range lot {
			errs[r.at] = wrap("report", err)
		}
	}
	return answer
}

// readAnswer reads what the script answers to a lot, and sets the errors of the reports that Redis has
// refused.
func readAnswer(text []string, lot []report, errs []error) (snapshot.Answer, error) {
	const header = 5
	if len(text) < header || (len(text)-header)%2 != 0 {
		return snapshot.Answer{}, errNonsense
	}
	live, err := strconv.Atoi(text[0])
	if err != nil {
		return snapshot.Answer{}, errNonsense
	}
	for refusal := range slices.Chunk(text[header:], 2) {
		n, err := strconv.Atoi(refusal[0])
		if err != nil || n < 1 || n > len(lot) {
			return snapshot.Answer{}, errNonsense
		}
		errs[lot[n-1].at] = wrap("report", refused(refusal[1]))
	}
	return snapshot.Answer{
		Head: snapshot.Base{Epoch: text[1], Revision: text[2], Sig: text[3]}, Beat: readBeat(text[4]), Live: live,
	}, nil
}
