package yarn

import (
	"context"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"io"
	"path"
	"strings"

	"github.com/sluicedata/sluice/engines"
	"github.com/sluicedata/sluice/engines/hadoop"
)

const (
	// clientLink is the shuffle client's jar in every container.
	clientLink = "__shuffle_client__.jar"
	// clientKey is a setting of no meaning to Spark: where on HDFS that jar is.
	clientKey = "spark.sluice.shuffle.client"
)

// shuffle is the service for a runtime. conf hears where its client's jar is on HDFS, and a jar of this machine is there then.
func (c *Cluster) shuffle(ctx context.Context, runtime string, conf map[string]string, report func(string)) (*engines.Shuffle, error) {
	if c.opt.Shuffle == nil {
		return nil, nil
	}
	s := c.opt.Shuffle(runtime)
	if s == nil || strings.HasPrefix(s.Jar, "local:") { // it is on every node
		return s, nil
	}
	s.Client, conf[clientKey] = clientLink, s.Jar
	if !strings.HasPrefix(s.Jar, "hdfs:") {
		r, err := c.shareClient(ctx, s.Jar, report)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.Key, err)
		}
		conf[clientKey] = r.URI
	}
	return s, nil
}

// shareClient puts a jar of this machine where everybody's containers find it, by its content: the same one is there once.
func (c *Cluster) shareClient(ctx context.Context, file string, report func(string)) (Resource, error) {
	c.upload.Lock()
	defer c.upload.Unlock()
	c.mu.Lock()
	r, known := c.libs[file]
	c.mu.Unlock()
	if known {
		return r, nil
	}
	j, err := readJar(file)
	if err != nil {
		return r, err
	}
	f, err := c.open(c.opt.User)
	if err != nil {
		return r, err
	}
	defer func() { _ = f.Close() }()
	name := clientName(j)
	report(fmt.Sprintf("the shuffle client is to be at %s: it is uploaded if it is not", c.opt.Hadoop.FS+path.Join(c.opt.Shared, name)))
	r, err = hadoop.Patiently(ctx, rmPatience, func() (Resource, error) {
		return f.share(ctx, c.opt.Shared, name, func(w io.Writer) error { return copyFile(w, file) })
	})
	if err != nil {
		return r, err
	}
	c.mu.Lock()
	c.libs[file] = r
	c.mu.Unlock()
	return r, nil
}

// clientName is how a client's jar is called on HDFS. Spark reads lists of addresses with commas and # in them.
func clientName(j jar) string {
	all := crc32.NewIEEE()
	_, _ = fmt.Fprintf(all, "%s %d %08x", j.name, j.size, j.sum)
	return fmt.Sprintf("shuffle-client-%s.jar", hex.EncodeToString(all.Sum(nil)))
}

// shuffleClient describes the client's jar as a resource of an application. What everybody may read is fetched once a node.
func (f *files) shuffleClient(uri, user string) (Resource, error) {
	r := Resource{Link: clientLink}
	if err := f.inPlace(&r, engines.File{From: uri}, user); err != nil {
		return r, fmt.Errorf("the shuffle client: %w", err)
	}
	return r, nil
}
