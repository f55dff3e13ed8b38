package spool

import (
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// left makes the file that a killed gateway leaves of an operation with batches of ten rows, and says where its records
// end.
func left(t *testing.T, batches int, finished bool) (data []byte, ends []int64) {
	t.Helper()
	p := NewPool(Limits{Dir: t.TempDir(), Disk: plenty, TotalDisk: plenty})
	s := p.New(uuid.New())
	for i := range batches {
		durable, err := s.Append(batch(memory.DefaultAllocator, i*10, 10), strconv.Itoa(i*10+10))
		require.NoError(t, err)
		require.True(t, durable)
		ends = append(ends, s.file.end)
	}
	if finished {
		s.Finish(nil)
		ends = append(ends, s.file.end)
	}
	data, err := os.ReadFile(p.path(s.name))
	require.NoError(t, err)
	s.Close()
	return data, ends
}

// put places a file into a pool as an operation's.
func put(t *testing.T, p *Pool, data []byte) uuid.UUID {
	t.Helper()
	id := uuid.New()
	require.NoError(t, os.WriteFile(p.path(id.String()+suffix), data, 0o600))
	return id
}

// A gateway may be killed at any byte. What is whole is there again, with the engine's word for its end; the writer goes
// on there, and in the end every row is there once.
func TestAKillAtAnyByte(t *testing.T) {
	const batches = 4
	data, ends := left(t, batches, true)
	p := newPool(t, Limits{Disk: plenty})
	for n := 0; n <= len(data); n += 7 {
		whole := 0
		for _, end := range ends[:batches] {
			if int64(n) >= end {
				whole++
			}
		}
		id := put(t, p, data[:n])
		s, err := p.Open(id)
		require.NoError(t, err, "killed at byte %d", n)
		if whole == 0 {
			require.Nil(t, s, "killed at byte %d", n)
			require.Empty(t, files(t, p), "what holds no batch is gone")
			continue
		}
		token, rows := s.Durable()
		require.Equal(t, int64(whole*10), rows, "killed at byte %d", n)
		require.Equal(t, strconv.Itoa(whole*10), token)
		done, _ := s.Done()
		require.False(t, done, "without its end it is not complete")
		for i := whole; i < batches; i++ {
			add(t, s, batch(memory.DefaultAllocator, i*10, 10))
		}
		s.Finish(nil)
		got, more := read(t, s, 0, plenty, allRows)
		require.Equal(t, seq(0, batches*10), got, "killed at byte %d", n)
		require.False(t, more)
		again, err := os.ReadFile(p.path(s.name))
		require.NoError(t, err)
		require.Equal(t, data, again, "the file is as if nothing had happened")
		s.Close()
	}
}

func TestACompleteResultIsThereAfterAKill(t *testing.T) {
	data, _ := left(t, 3, true)
	p := newPool(t, Limits{Disk: plenty})
	s, err := p.Open(put(t, p, data))
	require.NoError(t, err)
	defer s.Close()
	done, err := s.Done()
	require.True(t, done)
	require.NoError(t, err)
	_, disk := p.Usage()
	require.Equal(t, int64(len(data)), disk)
	got, err := s.Schema(t.Context())
	require.NoError(t, err)
	require.True(t, schema.Equal(got), "%s", got)
	rows, more := read(t, s, 0, plenty, allRows)
	require.Equal(t, seq(0, 30), rows)
	require.False(t, more)
	none, err := p.Open(uuid.New())
	require.NoError(t, err)
	require.Nil(t, none, "an operation that left nothing")
}

// Columns carry Spark's own types in their metadata; an engine tells them only once.
func TestTheSchemaSurvivesWithItsMetadata(t *testing.T) {
	p := newPool(t, Limits{Disk: plenty})
	rich := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.PrimitiveTypes.Int64, Nullable: true,
		Metadata: arrow.NewMetadata([]string{"SPARK::metadata::json"}, []string{`{"comment":"the key"}`})}}, nil)
	plain := batch(memory.DefaultAllocator, 0, 3)
	defer plain.Release()
	s := p.New(uuid.New())
	_, err := s.Append(recordOf(rich, plain), "x")
	require.NoError(t, err)
	data, err := os.ReadFile(p.path(s.name))
	require.NoError(t, err)
	s.Close()
	s, err = p.Open(put(t, p, data))
	require.NoError(t, err)
	defer s.Close()
	require.True(t, rich.Equal(s.Known()))
	require.Equal(t, rich.Field(0).Metadata, s.Known().Field(0).Metadata)
}

// recordOf gives a batch's first columns another schema.
func recordOf(schema *arrow.Schema, b arrow.RecordBatch) arrow.RecordBatch {
	return array.NewRecordBatch(schema, b.Columns()[:schema.NumFields()], b.NumRows())
}

func TestADamagedFile(t *testing.T) {
	data, ends := left(t, 3, true)
	data[ends[0]-1] ^= 1 // of the first batch
	p := newPool(t, Limits{Disk: plenty})
	s, err := p.Open(put(t, p, data))
	require.NoError(t, err)
	_, _, err = s.Read(t.Context(), 0, plenty, allRows, tenBytes)
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorContains(t, err, "is damaged at byte")
	_, _, err = s.Read(t.Context(), 10, plenty, allRows, tenBytes)
	require.ErrorIs(t, err, ErrDisk, "a result with a hole ends there")
}

func TestSweep(t *testing.T) {
	p := newPool(t, Limits{Disk: plenty})
	data, _ := left(t, 1, false)
	adopted := put(t, p, data)
	put(t, p, data)
	put(t, p, nil) // killed while it was made
	for _, foreign := range []string{"lock", "notes.rows", uuid.NewString()} {
		require.NoError(t, os.WriteFile(p.path(foreign), nil, 0o600))
		t.Cleanup(func() { _ = os.Remove(p.path(foreign)) })
	}
	s, err := p.Open(adopted)
	require.NoError(t, err)
	fresh, mem := inPool(t, p)
	fill(t, fresh, mem, 1)
	swept, err := p.Sweep()
	require.NoError(t, err)
	require.Equal(t, 2, swept)
	require.Len(t, files(t, p), 5, "what is used, and what is not ours, stays")
	s.Close()
	fresh.Close()
	require.Len(t, files(t, p), 3)
	for _, f := range files(t, p) {
		require.NoError(t, os.Remove(p.path(f)))
	}
}

func TestLimits(t *testing.T) {
	one := oneBatch(t)
	t.Run("a small result stays in memory", func(t *testing.T) {
		p := newPool(t, Limits{Memory: plenty, Disk: plenty})
		p.open = func(string, int) (file, error) { t.Error("the disk is touched"); return nil, os.ErrInvalid }
		s, mem := inPool(t, p)
		for s.memory < keepInMemory-2*one {
			add(t, s, batch(mem, int(s.rows), 10))
		}
		s.Finish(nil)
		rows, _ := read(t, s, 0, plenty, allRows)
		require.Equal(t, seq(0, int(s.rows)), rows)
	})
	t.Run("a larger one is on disk from its first row", func(t *testing.T) {
		p := newPool(t, Limits{Memory: plenty, Disk: plenty})
		s, mem := inPool(t, p)
		batches := int(keepInMemory/one) + 1
		fill(t, s, mem, batches)
		_, rows := s.Durable()
		require.Equal(t, int64(batches*10), rows)
		require.Len(t, files(t, p), 1)
	})
	t.Run("of one result in memory", func(t *testing.T) {
		p := newPool(t, Limits{Memory: 3 * one, Disk: plenty})
		s, mem := inPool(t, p)
		fill(t, s, mem, 100)
		held, _ := p.Usage()
		require.LessOrEqual(t, held, 3*one)
		require.Greater(t, held, one)
		rows, _ := read(t, s, 0, plenty, allRows)
		require.Equal(t, seq(0, 1000), rows)
		after, _ := p.Usage()
		require.Equal(t, held, after, "nothing is kept of what was read through")
	})
	t.Run("of all results in memory", func(t *testing.T) {
		p := newPool(t, Limits{Memory: 100 * one, Disk: plenty, TotalMemory: 20 * one})
		large, mem := inPool(t, p)
		fill(t, large, mem, 50)
		held, _ := p.Usage()
		require.LessOrEqual(t, held, 20*one)
		for range 50 {
			add(t, large, batch(mem, int(large.rows), 10))
		}
		held, _ = p.Usage()
		require.LessOrEqual(t, held, 10*one, "a result on disk takes half, and leaves the other half")
		small, mem := inPool(t, p)
		fill(t, small, mem, 10)
		require.Nil(t, small.file)
		next, mem := inPool(t, p)
		fill(t, next, mem, 1)
		require.NotNil(t, next.file, "beyond the total rows go to disk, and are not refused")
		rows, _ := read(t, next, 0, plenty, allRows)
		require.Equal(t, seq(0, 10), rows)
	})
	t.Run("of one result on disk", func(t *testing.T) {
		s, mem := newSpool(t, Limits{Disk: 5000})
		refused(t, s, mem, "spool.disk is 5000 bytes", "raise spool.disk")
	})
	t.Run("of all results on disk", func(t *testing.T) {
		p := newPool(t, Limits{Disk: plenty, TotalDisk: 10000})
		other, mem := inPool(t, p)
		fill(t, other, mem, 5)
		s, mem := inPool(t, p)
		refused(t, s, mem, "reach spool.total_disk, 10000 bytes", "raise spool.total_disk")
		rows, _ := read(t, other, 0, plenty, allRows)
		require.Equal(t, seq(0, 50), rows, "the others go on")
		fill(t, other, mem, 1) // in the room that was given back
	})
}

// refused fills a spool until it is refused, and sees that the operation's end gives its room back.
func refused(t *testing.T, s *Spool, mem memory.Allocator, texts ...string) {
	t.Helper()
	_, before := s.pool.Usage()
	var err error
	for i := 0; err == nil && i < 1000; i++ {
		_, err = s.Append(batch(mem, i*10, 10), "")
	}
	require.ErrorIs(t, err, ErrFull)
	for _, text := range texts {
		require.ErrorContains(t, err, text)
	}
	s.Finish(err)
	_, _, got := s.Read(t.Context(), 0, plenty, allRows, tenBytes)
	require.ErrorIs(t, got, ErrFull)
	_, after := s.pool.Usage()
	require.Equal(t, before, after)
	require.NoFileExists(t, s.pool.path(s.name))
}

// failing is a file whose disk fails at the nth write or read.
type failing struct {
	file
	write, read int
}

func (f *failing) WriteAt(p []byte, at int64) (int, error) {
	if f.write--; f.write == 0 {
		n, _ := f.file.WriteAt(p[:len(p)/2], at)
		return n, syscall.ENOSPC
	}
	return f.file.WriteAt(p, at)
}

func (f *failing) ReadAt(p []byte, at int64) (int, error) {
	if f.read--; f.read == 0 {
		return 0, syscall.EIO
	}
	return f.file.ReadAt(p, at)
}

// A disk that is full ends the operation that meets it, with a text that says what to do, and nothing of it is left.
func TestADiskThatIsFull(t *testing.T) {
	for write := 1; write <= 6; write++ { // the schema, what was in memory, what came then
		p := newPool(t, Limits{Memory: 2 * oneBatch(t), Disk: plenty})
		p.open = func(path string, flag int) (file, error) {
			f, err := openFile(path, flag)
			return &failing{file: f, write: write}, err
		}
		s, mem := inPool(t, p)
		var err error
		for i := 0; err == nil && i < 10; i++ {
			_, err = s.Append(batch(mem, i*10, 10), "")
		}
		require.ErrorIs(t, err, ErrDisk)
		require.ErrorIs(t, err, syscall.ENOSPC)
		require.ErrorContains(t, err, p.limits.Dir)
		require.ErrorContains(t, err, "free space there, or name another directory in spool.dir")
		s.Finish(err)
		require.Empty(t, files(t, p))
		held, disk := p.Usage()
		require.Zero(t, held)
		require.Zero(t, disk)

		p.open = openFile // the pool goes on
		next, mem := inPool(t, p)
		fill(t, next, mem, 2)
		rows, _ := read(t, next, 0, plenty, allRows)
		require.Equal(t, seq(0, 20), rows)
	}
}

// An end that cannot be written costs nothing but the result's life after a kill.
func TestAnEndThatCannotBeWritten(t *testing.T) {
	p := newPool(t, Limits{Disk: plenty})
	p.open = func(path string, flag int) (file, error) {
		f, err := openFile(path, flag)
		return &failing{file: f, write: 4}, err
	}
	s, mem := inPool(t, p)
	fill(t, s, mem, 2)
	s.Finish(nil)
	rows, more := read(t, s, 0, plenty, allRows)
	require.Equal(t, seq(0, 20), rows)
	require.False(t, more)
}

func TestADiskThatCannotBeRead(t *testing.T) {
	p := newPool(t, Limits{Disk: plenty})
	p.open = func(path string, flag int) (file, error) {
		f, err := openFile(path, flag)
		return &failing{file: f, read: 2}, err
	}
	s, mem := inPool(t, p)
	fill(t, s, mem, 3)
	_, _, err := s.Read(t.Context(), 0, plenty, allRows, tenBytes)
	require.ErrorIs(t, err, ErrDisk)
	require.ErrorIs(t, err, syscall.EIO)
	require.Empty(t, files(t, p), "its room is free at once")
	_, err = s.Append(batch(mem, 30, 10), "")
	require.ErrorIs(t, err, syscall.EIO, "its writer hears of it too")
}

func TestNoPlaceForTheFile(t *testing.T) {
	p := newPool(t, Limits{Disk: plenty})
	s, mem := inPool(t, p)
	require.NoError(t, os.Remove(p.limits.Dir))
	_, err := s.Append(batch(mem, 0, 10), "")
	require.ErrorIs(t, err, os.ErrNotExist)
	require.ErrorContains(t, err, filepath.Clean(p.limits.Dir))
	require.NoError(t, os.Mkdir(p.limits.Dir, 0o700))
}

// Whatever lies in a file, what is read from it is rows or an error.
func FuzzReopen(f *testing.F) {
	dir := f.TempDir()
	p := NewPool(Limits{Dir: dir, Disk: plenty, TotalDisk: plenty})
	s := p.New(uuid.New())
	for i := range 2 {
		_, err := s.Append(batch(memory.DefaultAllocator, i*10, 10), "x")
		require.NoError(f, err)
	}
	s.Finish(nil)
	data, err := os.ReadFile(p.path(s.name))
	require.NoError(f, err)
	s.Close()
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := p.Open(put(t, p, data))
		if err != nil || s == nil {
			_, err = p.Sweep()
			require.NoError(t, err)
			return
		}
		_, rows := s.Durable()
		s.Finish(nil)
		got := int64(0)
		for {
			page, _, err := s.Read(t.Context(), got, plenty, allRows, tenBytes)
			if err != nil {
				break
			}
			if len(page) == 0 {
				require.Equal(t, rows, got)
				break
			}
			for _, b := range page {
				got += b.NumRows()
				b.Release()
			}
		}
		s.Close()
		require.Empty(t, files(t, p))
	})
}
