package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/sluicedata/sluice/shuffle/wire/pb"
)

func TestParseQuotas(t *testing.T) {
	q, err := parseQuotas("1GiB", []string{"ann=5MiB", "team/bob=0"})
	require.NoError(t, err)
	require.EqualValues(t, 1<<30, q.Default)
	require.Equal(t, map[string]int64{"ann": 5 << 20, "team/bob": 0}, q.Users)
	for _, c := range []struct {
		all   string
		users []string
		want  string
	}{
		{"many", nil, `--default-quota: "many" is no size`},
		{"", []string{"ann"}, `--quota "ann": give USER=BYTES`},
		{"", []string{"=5"}, `--quota "=5": give USER=BYTES`},
		{"", []string{"ann=x"}, `--quota "ann=x": "x" is no size`},
	} {
		_, err := parseQuotas(c.all, c.users)
		require.ErrorContains(t, err, c.want)
	}
}

func TestShuffleStatus(t *testing.T) {
	var out strings.Builder
	require.NoError(t, printShuffleStatus(&out, &pb.StatusResponse{
		Workers: []*pb.WorkerStatus{
			{Id: "w0:1:2:3:4", State: "available", HeartbeatAgeMillis: 420, Slots: 12, Last: &pb.HeartbeatFromWorker{Connections: 3, MemoryUsed: 1 << 20, MemoryLimit: 1 << 30,
				Disks: []*pb.DiskInfo{{UsableSpace: 5 << 30, TotalSpace: 10 << 30}, {Status: 1, UsableSpace: 9 << 30, TotalSpace: 10 << 30}}}},
			{Id: "w1:1:2:3:4", State: "excluded", Reason: "it has no disk", HeartbeatAgeMillis: 61_400},
		},
		Applications:     []*pb.ApplicationStatus{{AppId: "app-1", User: "ann", Shuffles: 2, Bytes: 3 << 30, HeartbeatAgeMillis: 1000}, {AppId: "app-2", Adopted: true}},
		Users:            []*pb.UserStatus{{User: "ann", Bytes: 3 << 30, Limit: 4 << 30}, {Bytes: 1}},
		Refusals:         []*pb.SlotRefusal{{ShuffleKey: "app-1-7", AgeMillis: 2000, Reason: "1 of 2 workers can take partitions and 2 are needed"}},
		ExcludedPatterns: []string{"w9", "x*"},
	}))
	require.Equal(t, strings.TrimPrefix(`
WORKER      STATE      SEEN       PARTITIONS  DISK FREE            MEMORY              CONNECTIONS  WHY
w0:1:2:3:4  available  400ms ago  12          5.0 GiB of 20.0 GiB  1.0 MiB of 1.0 GiB  3            -
w1:1:2:3:4  excluded   1m1s ago   0           0 bytes of 0 bytes   0 bytes of 0 bytes  0            it has no disk

APPLICATION  USER       SHUFFLES  HELD     SEEN    NOTE
app-1        ann        2         3.0 GiB  1s ago  -
app-2        not known  0         0 bytes  0s ago  known from workers only, since this master started

USER       HOLDS    OF
ann        3.0 GiB  4.0 GiB
not known  1 bytes  no limit

REFUSED  WHEN    WHY
app-1-7  2s ago  1 of 2 workers can take partitions and 2 are needed

excluded by an operator: w9, x*
`, "\n"), out.String())
}
