package session

import (
	"fmt"
	"sync"
	"time"
)

// Log is an operation's log: the last lines that were said, numbered from the first.
type Log struct {
	limit int
	mu    sync.Mutex
	lines []string
	first int64 // number of lines[0]
}

// Say adds a line, with the time.
func (l *Log) Say(text string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, time.Now().Format("15:04:05 ")+text)
	if over := len(l.lines) - l.limit; over > 0 {
		l.lines = append([]string(nil), l.lines[over+l.limit/10:]...) // a tenth at once, not a copy per line
		l.first += int64(over + l.limit/10)
	}
}

// Read returns at most max lines from the given number on, and the number of the next one. Lines that were dropped
// are named as such.
func (l *Log) Read(from int64, max int) ([]string, int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []string
	if from < l.first {
		out = append(out, fmt.Sprintf("(%d earlier lines were dropped; session.log_lines sets how many are kept)", l.first-from))
		from = l.first
	}
	at := min(from-l.first, int64(len(l.lines)))
	end := min(at+int64(max), int64(len(l.lines)))
	out = append(out, l.lines[at:end]...)
	return out, l.first + end
}
