package testbed

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/sluicedata/sluice/gateway/hs2/tcli"
)

// SparkUI is the REST API of an application, which knows of each stage how many tasks have run.
type SparkUI string

// SparkUIOf is that of a driver on the host network, with spark.ui.enabled.
func SparkUIOf(t T, driver corev1.Pod) SparkUI {
	t.Helper()
	for _, p := range driver.Spec.Containers[0].Ports {
		if p.Name != "ui" {
			continue
		}
		u := SparkUI(fmt.Sprintf("http://%s:%d/api/v1/applications", driver.Status.PodIP, p.ContainerPort))
		var apps []struct{ ID string }
		if err := u.ask("", &apps); err != nil || len(apps) != 1 {
			t.Fatalf("the applications of %s: %v %v", driver.Name, apps, err)
		}
		return u + SparkUI("/"+apps[0].ID)
	}
	t.Fatalf("%s has no port of its UI", driver.Name)
	return ""
}

func (u SparkUI) ask(path string, into any) error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, string(u)+path, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", req.URL, resp.Status)
	}
	return json.NewDecoder(resp.Body).Decode(into)
}

// sparkStage is an attempt of a stage.
type sparkStage struct {
	StageID, AttemptID         int
	NumTasks, NumCompleteTasks int
	NumFailedTasks             int
	NumKilledTasks             int
	ShuffleWriteBytes          int64
}

func (u SparkUI) stages(t T) (out []sparkStage) {
	t.Helper()
	if err := u.ask("/stages", &out); err != nil {
		t.Fatalf("%v", err)
	}
	slices.SortFunc(out, func(a, b sparkStage) int { return (a.StageID-b.StageID)*1000 + a.AttemptID - b.AttemptID })
	return out
}

// BigShuffle is a query of two stages that sleep, so that its time hardly depends on the processors, and one that adds up.
type BigShuffle struct {
	C             *HS2
	UI            SparkUI
	Rows          int           // of 136 bytes each, which go through the shuffle
	Maps, Reduces int           // tasks of the two stages: different numbers, by which they are known
	MapNap        time.Duration // of each map task
	Naps          int           // of all reduce tasks, 150 ms each
}

// BigResult is what a BigShuffle's tasks have done.
type BigResult struct {
	Seconds                 float64
	Row                     []string
	MapsAgain, ReducesAgain int // completed tasks of the first stage, and of the second, beyond one for each of them
	Lost                    int // tasks that ended without a result
	Attempts                int // of both stages
	Shuffled                int64
	DoneBefore, InReduce    int // reduce tasks that had ended when the fault came, of all
}

// query is the whole one, or one that computes the same without its shuffle and its naps.
func (b BigShuffle) query(whole bool) string {
	columns, hash := "id", "id"
	for i := range 16 {
		columns += fmt.Sprintf(", xxhash64(id, %d) AS c%d", i, i)
		hash += fmt.Sprintf(", c%d", i)
	}
	parts, hint, first, second := 4, "", "TRUE", "TRUE"
	if whole {
		nap := func(every int, d time.Duration) string {
			return fmt.Sprintf("(id %% %d <> 0 OR java_method('java.lang.Thread', 'sleep', %dL) IS NOT NULL)", every, d.Milliseconds())
		}
		parts, hint = b.Maps, fmt.Sprintf("/*+ REPARTITION(%d, id) */ ", b.Reduces)
		first, second = nap(b.Rows/b.Maps, b.MapNap), nap(b.Rows/b.Naps, 150*time.Millisecond)
	}
	return fmt.Sprintf(`SELECT count(*), bit_xor(h), sum(h & 4294967295) FROM (SELECT xxhash64(%s) AS h FROM (SELECT %s%s FROM range(0, %d, 1, %d) WHERE %s) WHERE %s)`,
		hash, hint, columns, b.Rows, parts, first, second)
}

// Want is the query's row, computed without the shuffle that it is about. Classes are loaded then, and executors are there.
func (b BigShuffle) Want() []string { return b.C.All(b.query(false))[0] }

// Executors waits until the engine has so many.
func (b BigShuffle) Executors(t T, n int) {
	t.Helper()
	Until(t, 2*time.Minute, fmt.Sprintf("the engine has %d executors", n), func() bool {
		var known []struct{ ID string } // who is active
		if err := b.UI.ask("/executors", &known); err != nil {
			t.Fatalf("%v", err)
		}
		return len(known) == n+1 // and the driver
	})
}

// Run runs the query. fault, if there is one, is called in the middle of its reduce stage.
func (b BigShuffle) Run(t T, fault func()) (r BigResult) {
	t.Helper()
	first := 0
	for _, s := range b.UI.stages(t) {
		first = max(first, s.StageID+1)
	}
	began := time.Now()
	op := b.C.Async(b.query(true))
	if fault != nil {
		Until(t, 3*time.Minute, "a third of the reduce stage is done", func() bool {
			for _, s := range b.UI.stages(t) {
				if s.StageID >= first && s.NumTasks == b.Reduces && s.NumCompleteTasks >= b.Reduces/3 {
					r.DoneBefore, r.InReduce = s.NumCompleteTasks, s.NumTasks
					return true
				}
			}
			return false
		})
		fault()
	}
	if st := b.C.WaitState(op, 5*time.Minute); st.GetOperationState() != tcli.TOperationState_FINISHED_STATE {
		t.Fatalf("%s", st.GetErrorMessage())
	}
	r.Row = Texts(b.C.Fetch(op, tcli.TFetchOrientation_FETCH_NEXT, 10, 0).Results)[0]
	r.Seconds = time.Since(began).Seconds()
	b.count(t, first, &r)
	return r
}

// count counts the tasks of the stages from the first one on. A stage's number stays, whatever it is run again for.
func (b BigShuffle) count(t T, first int, r *BigResult) {
	t.Helper()
	tasks := map[int]int{} // of the first attempt
	for _, s := range b.UI.stages(t) {
		if s.StageID < first {
			continue
		}
		if s.AttemptID == 0 {
			tasks[s.StageID] = s.NumTasks
		}
		switch tasks[s.StageID] {
		case b.Maps:
			r.MapsAgain += s.NumCompleteTasks
			r.Shuffled += s.ShuffleWriteBytes
		case b.Reduces:
			r.ReducesAgain += s.NumCompleteTasks
		default:
			continue
		}
		r.Attempts++
		r.Lost += s.NumFailedTasks + s.NumKilledTasks
	}
	r.MapsAgain -= b.Maps
	r.ReducesAgain -= b.Reduces
}

// EvictExecutors takes all executors of a namespace away by the Eviction API, as a drain of all their nodes does, with a second of notice.
// It says how many there were.
func (k *Kubernetes) EvictExecutors(t T, namespace string) (n int) {
	t.Helper()
	pods, err := k.client.CoreV1().Pods(namespace).List(context.Background(), metav1.ListOptions{LabelSelector: "spark-role=executor"})
	if err != nil {
		t.Fatalf("%v", err)
	}
	notice := int64(1)
	for _, pod := range pods.Items {
		if pod.DeletionTimestamp != nil || pod.Status.Phase != corev1.PodRunning {
			continue
		}
		eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: pod.Name}, DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: &notice}}
		if err := k.client.CoreV1().Pods(namespace).EvictV1(context.Background(), eviction); err != nil {
			t.Fatalf("evict %s: %v", pod.Name, err)
		}
		n++
	}
	return n
}
