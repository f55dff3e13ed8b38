package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/google/uuid"
)

// Limits in bytes: of one result, and of all together.
type Limits struct {
	Dir                    string // of the files; it exists, and no other gateway uses it
	Memory, Disk           int64  // of one result
	TotalMemory, TotalDisk int64
}

var (
	// ErrFull says that a result has met a limit of the spool's. The text names the key.
	ErrFull = errors.New("the result is larger than the spool may grow")
	// ErrDisk says that the spool's directory failed. The text names it and what to do.
	ErrDisk = errors.New("the spool cannot use its directory")
	// ErrClosed says that the operation was closed while somebody waited for its rows.
	ErrClosed = errors.New("the result was closed")
)

// Pool holds what all spools of a gateway share: the directory and the limits of all together. It is safe for
// concurrent use.
type Pool struct {
	limits Limits
	open   func(path string, flag int) (file, error) // tests put in one that fails

	mu           sync.Mutex
	memory, disk int64
	live         map[string]bool // names of the files that are in use
}

// NewPool makes a pool. It touches no disk.
func NewPool(l Limits) *Pool { return &Pool{limits: l, open: openFile, live: map[string]bool{}} }

// New makes an empty spool for an operation. Its file is made once memory does not suffice.
func (p *Pool) New(id uuid.UUID) *Spool {
	return &Spool{pool: p, name: id.String() + suffix, changed: make(chan struct{})}
}

// Open goes on with the file that a killed gateway has left of an operation, up to the last batch that is whole. It
// returns nil if there is none.
func (p *Pool) Open(id uuid.UUID) (*Spool, error) {
	s := p.New(id)
	f, found, err := p.reopen(s.name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, p.diskError(err)
	}
	if found.schema == nil || len(found.parts) == 0 { // killed before the first batch was whole
		f.remove()
		return nil, nil
	}
	last := found.parts[len(found.parts)-1]
	s.file, s.schema, s.parts, s.rows, s.done = f, found.schema, found.parts, last.first+last.rows, found.complete
	return s, nil
}

// Sweep deletes the files that no operation has: leftovers of a gateway that was killed. It deletes nothing that does
// not look like ours, should the directory be one for other things too.
func (p *Pool) Sweep() (int, error) {
	entries, err := os.ReadDir(p.limits.Dir)
	if err != nil {
		return 0, p.diskError(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	swept := 0
	for _, e := range entries {
		id, ours := strings.CutSuffix(e.Name(), suffix)
		if !ours || p.live[e.Name()] || uuid.Validate(id) != nil {
			continue
		}
		err := os.Remove(filepath.Join(p.limits.Dir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) { // its operation has ended in the meantime
			continue
		}
		if err != nil {
			return swept, p.diskError(err)
		}
		swept++
	}
	return swept, nil
}

// Usage tells how many bytes of rows are in memory and on disk.
func (p *Pool) Usage() (memory, disk int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.memory, p.disk
}

// takeMemory reserves memory, or says that there is none. Rows that are on disk too may take only half of what there
// is, so that large results do not drive small ones to the disk.
func (p *Pool) takeMemory(n int64, onDisk bool) bool {
	limit := p.limits.TotalMemory
	if onDisk {
		limit /= 2
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.memory+n > limit {
		return false
	}
	p.memory += n
	return true
}

func (p *Pool) giveMemory(n int64) {
	p.mu.Lock()
	p.memory -= n
	p.mu.Unlock()
}

// takeDisk reserves room for n more bytes of a file.
func (p *Pool) takeDisk(f *rowFile, n int64) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	const hint = "ask for fewer rows, write the result to a table, or raise"
	switch {
	case f.gone:
		return ErrClosed
	case f.size+n > p.limits.Disk:
		return fmt.Errorf("%w: spool.disk is %d bytes: %s spool.disk", ErrFull, p.limits.Disk, hint)
	case p.disk+n > p.limits.TotalDisk:
		return fmt.Errorf("%w: all results together reach spool.total_disk, %d bytes: close results that are no longer needed, %s spool.total_disk",
			ErrFull, p.limits.TotalDisk, hint)
	}
	f.size += n
	p.disk += n
	return nil
}

func (p *Pool) diskError(err error) error {
	return fmt.Errorf("%w %s: %w: free space there, or name another directory in spool.dir", ErrDisk, p.limits.Dir, err)
}
