package admission

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/sluicedata/sluice/router/rules"
)

// longestPause is for how long a statement may be held back by a rate; beyond it is refused.
const longestPause = time.Minute

// bucket fills up with tokens; it may owe some.
type bucket struct {
	tokens float64
	at     time.Time
}

// Bucket is the state of a bucket after a token was taken, and after how long that may be used; it stays as it was if that is
// longer than most. A bucket that was never used is full. Stores use it, too, so that all buckets do the same.
func Bucket(tokens float64, at, now time.Time, rate float64, burst int, most time.Duration) (left float64, wait time.Duration) {
	if at.IsZero() {
		tokens = float64(burst)
	} else if d := now.Sub(at); d > 0 {
		tokens = min(float64(burst), tokens+rate*d.Seconds())
	}
	left = tokens - 1
	if left < 0 {
		wait = time.Duration(-left / rate * float64(time.Second))
	}
	if wait > most {
		left = tokens
	}
	return left, wait
}

// Pause holds a statement back that comes too fast.
func (g *Gate) Pause(ctx context.Context, a Ask, report func(string)) error {
	all := Holding(g.opt.Limits(), a, func(l rules.Limit) float64 { return l.Rate })
	var longest time.Duration
	for _, key := range slices.Sorted(maps.Keys(all)) {
		l := all[key]
		words := fmt.Sprintf("the rate of %s (%g statements a second)", ownerOf(l, key), l.Rate)
		wait, err := g.token(ctx, "rate/"+key, l)
		if err != nil {
			return fmt.Errorf("%s: %w", words, err)
		}
		if wait > longestPause {
			return &Refused{fmt.Sprintf("%s is exceeded by so much that this statement would wait for %s: send fewer", words, wait.Round(time.Second))}
		}
		if wait > longest {
			longest = wait
			report(fmt.Sprintf("Waits for %s, because %s is reached", wait.Round(time.Millisecond), words))
		}
	}
	if longest == 0 {
		return nil
	}
	timer := time.NewTimer(longest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (g *Gate) token(ctx context.Context, name string, l rules.Limit) (time.Duration, error) {
	if g.opt.Store != nil {
		return g.opt.Store.TakeToken(ctx, name, l.Rate, l.Burst, longestPause)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.buckets[name]
	if b == nil {
		b = &bucket{}
		g.buckets[name] = b
	}
	now := time.Now()
	var wait time.Duration
	b.tokens, wait = Bucket(b.tokens, b.at, now, l.Rate, l.Burst, longestPause)
	b.at = now
	return wait, nil
}
